//! Ready-made identity headers, kept with the session they belong to.

use std::sync::{Arc, Mutex, PoisonError};

use super::{HeaderRule, IdentityHeaders, Naming};
use crate::fault::Fault;
use crate::identity::Identity;

/// How many routes' headers one session keeps; a person seldom uses more at a time.
const KEPT: usize = 8;

/// For one session: the headers of the routes it used lately, by route and naming.
#[derive(Debug, Default)]
pub struct PreparedHeaders(Mutex<Vec<Prepared>>);

#[derive(Debug)]
struct Prepared {
    route: usize,
    naming: Naming,
    headers: Arc<IdentityHeaders>,
}

impl PreparedHeaders {
    /// The headers for a route, made at its first use.
    ///
    /// # Errors
    /// As [`IdentityHeaders::new`].
    pub fn get(&self, identity: &Identity, route: usize, naming: Naming, rules: &[HeaderRule]) -> Result<Arc<IdentityHeaders>, Fault> {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = kept.iter().find(|known| known.route == route && known.naming == naming) {
            return Ok(Arc::clone(&known.headers));
        }
        let headers = Arc::new(IdentityHeaders::new(identity, naming, rules)?);
        if kept.len() >= KEPT {
            kept.remove(0);
        }
        kept.push(Prepared { route, naming, headers: Arc::clone(&headers) });
        Ok(headers)
    }
}
