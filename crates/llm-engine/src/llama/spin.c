// GNU OpenMP lets threads that wait for each other spin for milliseconds; where other programs want the CPU too, a tiny model
// then takes eighty times as long. It reads how long to spin from the environment, once, before main. This runs earlier still:
// constructors with a number go before those without, as long as libgomp is linked into the same file.
#ifdef __linux__
#include <stdlib.h>

__attribute__((constructor(101))) static void spin_briefly(void) {
    setenv("GOMP_SPINCOUNT", "1000", /* unless it is set */ 0);
}
#endif

// Called once, so that the linker keeps this file.
void engine_spins_briefly(void) {}
