//! The terminal from outside: the real program, its streams and its exit codes.
mod ask;
mod commands;
mod config;
mod examples;
mod exits;
mod program;
mod readme;
mod serve;
mod startup;
mod troubleshooting;
