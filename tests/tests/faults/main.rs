//! The gateway under faults, one upstream's misdeed a case: what the client is told, and what the upstream notices.
//!
//! What an `Llm` makes of the same servers stands in bad_upstreams.rs, what clients do to connections in wire.rs (among it a
//! reader that stops), malformed bodies by the thousand in load.rs, and answers that would fill the memory in giants.rs.

mod clients;
mod connections;
mod deployments;
mod kit;
mod refusals;
mod streams;
mod waits;
