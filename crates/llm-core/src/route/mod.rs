//! Routes: which model a call means, which deployment answers, and who steps in.
//!
//! A [`Gateway`](crate::Gateway) builds them from a configuration. By hand, from the inside out:
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> llm_core::Result<()> {
//! use std::sync::Arc;
//! use llm_core::route::{Deployment, Fallback, Model, Router, Selection, Status, fallback::Named, selection::Candidate};
//! use llm_core::{Call, ChatRequest, Delivery, Operation, Operations, Provider, provider::fake::Fake};
//! let model = |name: &str, fake: Fake| -> llm_core::Result<Model> {
//!     let fake: Arc<dyn Provider> = Arc::new(fake);
//!     let deployment = Arc::new(Deployment::new(format!("{name}/0"), None, fake.clone()));
//!     let selection = Selection::new(vec![Candidate { deployment: deployment.clone(), stack: fake }])?;
//!     let deployments = vec![deployment];
//!     let stack = Arc::new(Fallback::new(Arc::new(selection), deployments.clone()));
//!     let (name, operations, aliases) = (name.into(), Operations::CHAT, vec![]);
//!     Ok(Model { name, aliases, specialization: None, context_window: None, operations, deployments, stack })
//! };
//! let (a, b) = (model("a", Fake::says("").after_failures(9))?, model("b", Fake::says("b speaks"))?);
//! let others = vec![Named::new(b.name.clone(), b.stack.alone())];
//! a.stack.steps_in(others);
//! let router = Router::new(vec![Arc::new(a), Arc::new(b)], Some("a".into()))?;
//! assert!(router.has("b") && router.is_default("a") && router.find("c", Operation::Chat).is_err());
//!
//! let call = Call::new(ChatRequest::new("hi"), Delivery::Whole);
//! assert_eq!(router.call(&call).await?.chat().await?.text, "b speaks");
//! let a = &router.find("a", Operation::Chat)?.deployments[0];
//! assert!(matches!(a.status(), Status::Failing(_)) && !a.is_resting()); // once is not often
//! # Ok(())
//! # }
//! ```
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
