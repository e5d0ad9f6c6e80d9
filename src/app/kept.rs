//! What one config takes over from the one before. Whoever was made from the same lines stays who it is: what a provider's document and keys say,
//! tokens for upstreams, connections, counts of what is under way. So a reload asks nobody anything, and a provider that is down is not
//! forgotten. What the newer config does not ask for goes with the older one.

use std::any::Any;
use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::Arc;

use crate::config::{Mark, Marks};

/// Keys that concern everything that calls somebody. Their names in the config.
const OF_CALLS: [&str; 6] = ["public_url", "prefix", "insecure_http", "leeway", "limits.provider_timeout", "limits.provider_answer_bytes"];

type Thing = Arc<dyn Any + Send + Sync>;

/// By their kind and name, and what they were made of.
#[derive(Default)]
pub(super) struct Kept(HashMap<(&'static str, String, Mark), Thing>);

/// While a generation is made.
pub(super) struct Keeping<'a> {
    marks: &'a Marks,
    before: Option<&'a Kept>,
    now: RefCell<Kept>,
}

impl<'a> Keeping<'a> {
    pub(super) fn new(marks: &'a Marks, before: Option<&'a Kept>) -> Self {
        Self { marks, before, now: RefCell::default() }
    }

    /// What was made under this name of the same, else what `make` makes. `keys` are all that it is made of beside [`OF_CALLS`].
    pub(super) fn same<T, E>(
        &self,
        (kind, name): (&'static str, &str),
        keys: &[&str],
        make: impl FnOnce() -> Result<T, E>,
    ) -> Result<Arc<T>, E>
    where
        T: Send + Sync + 'static,
    {
        let keys: Vec<&str> = keys.iter().copied().chain(OF_CALLS).collect();
        let place = (kind, name.to_owned(), self.marks.together(&keys));
        let known = self.now.borrow().0.get(&place).or_else(|| self.before?.0.get(&place)).cloned();
        let thing = match known.and_then(|known| known.downcast::<T>().ok()) {
            Some(known) => known,
            None => Arc::new(make()?),
        };
        self.now.borrow_mut().0.insert(place, Arc::<T>::clone(&thing));
        Ok(thing)
    }

    /// For the generation to hold.
    pub(super) fn into_kept(self) -> Kept {
        self.now.into_inner()
    }
}
