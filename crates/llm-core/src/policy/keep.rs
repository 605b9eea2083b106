//! What survives a reload: every part whose text did not change is handed on as it is.
use std::any::Any;
use std::collections::HashMap;
use std::sync::Arc;

use crate::error::Result;

type Part = Arc<dyn Any + Send + Sync>;

/// The parts of a configuration by their text; looked up in the one before, collected for the one after.
///
/// ```
/// use std::sync::Arc;
/// use llm_core::policy::Keep;
/// let mut keep = Keep::default();
/// let first = keep.part("queue a 4".into(), || Ok(4))?;
/// let mut keep = keep.next(); // the next configuration is built
/// let same = keep.part("queue a 4".into(), || Ok(5))?;
/// assert!(Arc::ptr_eq(&first, &same) && *keep.undo().next().part("queue a 4".into(), || Ok(6))? == 6);
/// # Ok::<(), llm_core::Error>(())
/// ```
#[derive(Default)]
pub struct Keep {
    before: HashMap<String, Part>,
    after: HashMap<String, Part>,
}

impl Keep {
    /// After a build that went well: its parts are those before the next one.
    pub fn next(self) -> Keep {
        Keep { before: self.after, after: HashMap::new() }
    }

    /// After a build that failed: nothing has changed.
    pub fn undo(self) -> Keep {
        Keep { before: self.before, after: HashMap::new() }
    }

    /// The part with this text, if there is one already.
    ///
    /// ```
    /// use llm_core::policy::Keep;
    /// let mut keep = Keep::default();
    /// keep.part("queue a 4".into(), || Ok(4))?;
    /// assert!(keep.find::<i32>("queue a 4").is_some() && keep.find::<i32>("queue b 4").is_none());
    /// # Ok::<(), llm_core::Error>(())
    /// ```
    pub fn find<T: Send + Sync + 'static>(&self, text: &str) -> Option<Arc<T>> {
        let known = self.after.get(text).or_else(|| self.before.get(text)).cloned();
        known.and_then(|part| part.downcast().ok())
    }

    /// The part with this text: the one there was, or a new one. Asked twice, it is the same part.
    ///
    /// # Errors
    /// Those of `make`.
    pub fn part<T: Send + Sync + 'static>(&mut self, text: String, make: impl FnOnce() -> Result<T>) -> Result<Arc<T>> {
        let part = match self.find(&text) {
            Some(part) => part,
            None => Arc::new(make()?),
        };
        self.after.insert(text, part.clone());
        Ok(part)
    }
}
