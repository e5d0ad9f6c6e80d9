//! Ready-made identity headers, kept with the session they belong to.

use std::sync::{Arc, Mutex, PoisonError};

use super::{HeaderRule, IdentityHeaders, Naming, TokensToTell};
use crate::fault::Fault;
use crate::session::Session;

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
    pub fn get(&self, session: &Session, route: usize, naming: Naming, rules: &[HeaderRule]) -> Result<Arc<IdentityHeaders>, Fault> {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = kept.iter().find(|known| known.route == route && known.naming == naming) {
            return Ok(Arc::clone(&known.headers));
        }
        let tokens =
            TokensToTell { access_token: session.tokens.as_ref().map(|tokens| &tokens.access_token), id_token: Some(&session.id_token) };
        let headers = Arc::new(IdentityHeaders::new(&session.identity, tokens, naming, rules)?);
        if kept.len() >= KEPT {
            kept.remove(0);
        }
        kept.push(Prepared { route, naming, headers: Arc::clone(&headers) });
        Ok(headers)
    }
}
