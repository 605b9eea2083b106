//! Routes: which model a call means, which deployment answers, and who steps in.
mod affinity;
mod canary;
pub mod deployment;
pub mod dimensions;
pub mod fallback;
pub mod health;
pub mod router;
pub mod selection;

pub use deployment::Deployment;
pub use dimensions::Dimensions;
pub use fallback::Fallback;
pub use health::{Health, Status};
pub use router::{Model, Router};
pub use selection::Selection;
