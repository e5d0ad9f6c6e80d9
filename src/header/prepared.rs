//! Ready-made identity headers, kept with the session or the remembered token that they belong to.

use std::sync::{Arc, Mutex, PoisonError};

use super::template::HeaderTemplate;
use super::{IdentityHeaders, Naming, Telling, TokensToTell};
use crate::fault::Fault;
use crate::identity::Identity;
use crate::secret::Secret;

/// How many routes' headers are kept for one; a person seldom uses more at a time.
const KEPT: usize = 8;

/// For one session or token: the headers of the routes it was used on lately, by route and naming.
#[derive(Default)]
pub struct PreparedHeaders(Mutex<Vec<Prepared>>);

struct Prepared {
    route: u64,
    naming: Naming,
    /// What the files held that stand in them.
    files: Box<[Arc<Secret>]>,
    headers: Arc<IdentityHeaders>,
}

impl PreparedHeaders {
    /// The headers for a route, made at its first use and again when a file that stands in them changed. Identity and tokens are those of the
    /// session or token, the same at every call.
    ///
    /// # Errors
    /// As [`IdentityHeaders::new`].
    pub fn get(
        &self,
        identity: &Identity,
        tokens: TokensToTell<'_>,
        telling: Telling<'_>,
        naming: Naming,
    ) -> Result<Arc<IdentityHeaders>, Fault> {
        let files = telling.rules.iter().flat_map(|rule| HeaderTemplate::files(&rule.template));
        let files = files.map(super::HeaderFile::text).collect::<Result<Box<[_]>, _>>()?;
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let at = kept.iter().position(|known| known.route == telling.route && known.naming == naming);
        if let Some(known) = at.and_then(|at| kept.get(at)) {
            let same = known.files.len() == files.len() && known.files.iter().zip(&files).all(|(known, now)| Arc::ptr_eq(known, now));
            if same {
                return Ok(Arc::clone(&known.headers));
            }
        }
        let headers = Arc::new(IdentityHeaders::new(identity, tokens, naming, telling)?);
        match at {
            Some(at) => drop(kept.remove(at)),
            None if kept.len() >= KEPT => drop(kept.remove(0)),
            None => {}
        }
        // Most are used on one route; a list that grows by itself begins with room for four.
        kept.reserve_exact(1);
        kept.push(Prepared { route: telling.route, naming, files, headers: Arc::clone(&headers) });
        Ok(headers)
    }
}

impl std::fmt::Debug for PreparedHeaders {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("PreparedHeaders")
    }
}
