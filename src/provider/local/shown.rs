//! Passwords that are shown with each request (HTTP Basic, RFC 7617): judged as those of the form are, by the same counts, and remembered for a
//! while where they were right.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

use super::provider::LocalProvider;
use super::remembered::{Known, Remembered, Tagged};
use super::{Denied, GuessLimits};
use crate::clock::SharedClock;
use crate::fault::Fault;
use crate::identity::Identity;
use crate::reason::Reason;
use crate::secret::Secret;
use crate::tasks::Tasks;

/// What came of a password.
type Judged = Result<Arc<Identity>, Denied>;

/// Who shows which password.
pub struct ShownPasswords {
    shared: Arc<Shared>,
    tasks: Tasks,
}

struct Shared {
    local: Arc<LocalProvider>,
    remembered: Remembered,
    /// What is being judged now: whoever shows the same password from the same network meanwhile waits for the same answer. They are one
    /// guess and one hash, however many requests a program sends at once.
    under_way: Mutex<HashMap<[u8; 32], watch::Receiver<Option<Judged>>>>,
    clock: SharedClock,
}

impl ShownPasswords {
    /// For these accounts.
    #[must_use]
    pub fn new(local: Arc<LocalProvider>, guesses: GuessLimits, clock: SharedClock, tasks: Tasks) -> Self {
        let shared = Shared { local, remembered: Remembered::new(guesses), under_way: Mutex::default(), clock };
        Self { shared: Arc::new(shared), tasks }
    }

    /// Who this is. Their login is worth a password alone, `pwd`, even where they have an authenticator: nobody types a code with each request.
    /// It happened now, since the password was shown now.
    ///
    /// # Errors
    /// Why not. A name that nobody has takes as long as a wrong password and is told the same.
    pub async fn check(&self, name: &str, password: &Secret, from: IpAddr) -> Judged {
        let tagged = self.shared.remembered.tagged(name, password, from);
        let look = match self.shared.remembered.known(&tagged, self.shared.clock.now()) {
            Known::Right(identity) => return Ok(identity),
            Known::RightFor(fingerprint) => Some(fingerprint),
            Known::Nothing => None,
        };
        let mut answer = {
            let mut under_way = self.shared.under_way();
            match under_way.get(&tagged.all) {
                Some(answer) => answer.clone(),
                None => {
                    let (sender, answer) = watch::channel(None);
                    under_way.insert(tagged.all, answer.clone());
                    let (shared, password, name) = (Arc::clone(&self.shared), password.clone(), name.to_owned());
                    // To its end in any case: a guess that is given up counts.
                    drop(self.tasks.run(async move {
                        let ended = Ended { shared: &shared, tag: tagged.all };
                        let judged = shared.judge(&name, password, from, &tagged, look).await;
                        // First, so that nobody who comes from now on is given this answer.
                        drop(ended);
                        sender.send_replace(Some(judged));
                    }));
                    answer
                }
            }
        };
        let judged = answer.wait_for(Option::is_some).await.ok().and_then(|judged| judged.clone());
        judged.unwrap_or_else(|| Err(Denied::Refused(Fault::new(Reason::Internal, "checking a password broke off"))))
    }
}

/// Takes what was under way out, also when it panicked.
struct Ended<'a> {
    shared: &'a Shared,
    tag: [u8; 32],
}

impl Drop for Ended<'_> {
    fn drop(&mut self) {
        self.shared.under_way().remove(&self.tag);
    }
}

impl Shared {
    fn under_way(&self) -> MutexGuard<'_, HashMap<[u8; 32], watch::Receiver<Option<Judged>>>> {
        self.under_way.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn judge(&self, name: &str, password: Secret, from: IpAddr, tagged: &Tagged, look: Option<[u8; 32]>) -> Judged {
        if let Some(fingerprint) = look
            && let Some(proof) = self.local.look(name, fingerprint).await?
        {
            let identity = Arc::new(self.local.identity_of(proof)?);
            self.remembered.looked(tagged, &identity, self.clock.now());
            return Ok(identity);
        }
        let checked = self.local.check_and_fingerprint(name, password, from).await;
        if let Err(Denied::Slowed(fault, _)) = &checked
            && fault.reason == Reason::GuessesOfName
        {
            self.remembered.close(tagged, self.clock.now());
        }
        let (proof, fingerprint) = checked?;
        let identity = Arc::new(self.local.identity_of(proof)?);
        self.remembered.hashed(tagged, fingerprint, &identity, self.clock.now());
        Ok(identity)
    }
}
