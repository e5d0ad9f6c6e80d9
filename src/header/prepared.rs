//! Ready-made identity headers, kept with the session or the remembered token that they belong to.

use std::sync::{Arc, Mutex, PoisonError};

use super::{HeaderRule, IdentityHeaders, Naming, TokensToTell};
use crate::fault::Fault;
use crate::identity::Identity;

/// How many routes' headers are kept for one; a person seldom uses more at a time.
const KEPT: usize = 8;

/// For one session or token: the headers of the routes it was used on lately, by route and naming.
#[derive(Debug, Default)]
pub struct PreparedHeaders(Mutex<Vec<Prepared>>);

#[derive(Debug)]
struct Prepared {
    route: usize,
    naming: Naming,
    headers: Arc<IdentityHeaders>,
}

impl PreparedHeaders {
    /// The headers for a route, made at its first use. Identity and tokens are those of the session or token, the same at every call.
    ///
    /// # Errors
    /// As [`IdentityHeaders::new`].
    pub fn get(
        &self,
        identity: &Identity,
        tokens: TokensToTell<'_>,
        (route, rules): (usize, &[HeaderRule]),
        naming: Naming,
    ) -> Result<Arc<IdentityHeaders>, Fault> {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = kept.iter().find(|known| known.route == route && known.naming == naming) {
            return Ok(Arc::clone(&known.headers));
        }
        let headers = Arc::new(IdentityHeaders::new(identity, tokens, naming, rules)?);
        if kept.len() >= KEPT {
            kept.remove(0);
        }
        kept.push(Prepared { route, naming, headers: Arc::clone(&headers) });
        Ok(headers)
    }
}
