//! DPoP (RFC 9449) at the resource: one proof, checked by its steps, counted once on whichever replica; and the nonces that a route may ask for.
//!
//! A nonce is the time it was given out, sealed by the gateway's keys: every replica reads it, nobody keeps it.

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue};

use crate::clock::{SharedClock, UnixTime};
use crate::fault::{Fault, Outage};
use crate::header::PreparedHeaders;
use crate::reason::Reason;
use crate::request::{RequestFacts, Sites};
use crate::route::NonceRule;
use crate::secret::{self, SealRing, Secret};
use crate::store::Sessions;
use crate::token::Algorithm;
use crate::token::dpop::{Age, Proof, ProofExpectation};

/// The header of a proof (RFC 9449 §4.1).
pub const DPOP: HeaderName = HeaderName::from_static("dpop");
/// The header of a nonce (RFC 9449 §8.1).
pub const DPOP_NONCE: HeaderName = HeaderName::from_static("dpop-nonce");

/// The least that a proof may be away from now: programs' clocks are worse than issuers'.
const WINDOW: Duration = Duration::from_secs(60);
/// How long a nonce counts.
const NONCE_COUNTS: Duration = Duration::from_secs(5 * 60);
/// From when on an answer brings a new one.
const NONCE_OLD: Duration = Duration::from_secs(2 * 60);

/// Checks proofs.
pub struct DpopVerifier {
    sessions: Arc<Sessions<PreparedHeaders>>,
    ring: Arc<SealRing>,
    sites: Arc<Sites>,
    clock: SharedClock,
    leeway: Duration,
}

/// For what a proof is shown.
pub struct ProofFor<'a> {
    /// The request; in forward-auth the one that the front proxy asks about.
    pub facts: &'a RequestFacts,
    /// What came with it.
    pub headers: &'a HeaderMap,
    /// The token that is bound.
    pub token: &'a Secret,
    /// To what: `cnf.jkt`.
    pub jkt: &'a str,
    /// Whether the route asks for a nonce.
    pub nonce: NonceRule,
}

/// What came of a check.
pub struct Checked {
    /// Whether it counts.
    pub proven: Result<(), Fault>,
    /// A nonce for the next proof, where one is due (§8.2, §9): to be sent as [`DPOP_NONCE`].
    pub nonce: Option<HeaderValue>,
}

impl DpopVerifier {
    /// `sessions` remembers which proofs were there, `ring` seals nonces, `sites` says what our hosts are called from outside.
    #[must_use]
    pub const fn new(
        sessions: Arc<Sessions<PreparedHeaders>>,
        ring: Arc<SealRing>,
        sites: Arc<Sites>,
        clock: SharedClock,
        leeway: Duration,
    ) -> Self {
        Self { sessions, ring, sites, clock, leeway }
    }

    /// Checks the proof that came with a request.
    ///
    /// # Errors
    /// When nobody could say whether it was there before.
    pub async fn check(&self, shown: &ProofFor<'_>) -> Result<Checked, Outage> {
        let now = self.clock.now();
        let (proven, nonce) = match self.read(shown, now) {
            Ok((proof, counts_until, nonce)) => (self.first_time(shown, &proof, counts_until).await?, nonce),
            Err(fault) => {
                let nonce = if fault.reason == Reason::DpopNonce { self.new_nonce(now) } else { None };
                (Err(fault), nonce)
            }
        };
        Ok(Checked { proven, nonce })
    }

    /// Everything that can be said without asking: the proof, how long it counts, and the nonce that takes the place of an old one.
    fn read(&self, shown: &ProofFor<'_>, now: UnixTime) -> Result<(Proof, UnixTime, Option<HeaderValue>), Fault> {
        // RFC 9449 §4.3 (1).
        let mut lines = shown.headers.get_all(DPOP).iter();
        let line = lines.next().ok_or_else(|| Fault::new(Reason::DpopProofMissing, "no DPoP header"))?;
        if lines.next().is_some() {
            return Err(Fault::new(Reason::DpopProofRepeated, "two DPoP headers"));
        }
        let text = line.to_str().map_err(|_| Fault::new(Reason::DpopProofMalformed, "the DPoP header is no text"))?;
        let proof = Proof::read(text, &Algorithm::DEFAULT)?;

        let window = self.leeway.max(WINDOW);
        let (age, counts_until, nonce) = match shown.nonce {
            NonceRule::Unasked => (Age::IssuedAt(window), proof.issued_at().plus(window), None),
            NonceRule::Asked => {
                let given = proof.nonce().and_then(|nonce| self.given_at(nonce, now));
                let due = given.is_some_and(|given| given.plus(NONCE_OLD) <= now);
                let counts_until = given.unwrap_or(now).plus(NONCE_COUNTS);
                (Age::Nonce(given), counts_until, if due { self.new_nonce(now) } else { None })
            }
        };
        let facts = shown.facts;
        let base = self.sites.base(&facts.host).ok_or_else(|| Fault::new(Reason::DpopProofUrl, "the config does not name the host"))?;
        let expect =
            ProofExpectation { method: &facts.method, base: &base, path: &facts.path, token: shown.token.expose(), jkt: shown.jkt, age };
        proof.judge(&expect, now)?;
        Ok((proof, counts_until, nonce))
    }

    /// RFC 9449 §11.1: a `jti` counts once for its key and its target. Last of all, so that only who holds a good token and its key makes us
    /// remember anything.
    async fn first_time(&self, shown: &ProofFor<'_>, proof: &Proof, counts_until: UnixTime) -> Result<Result<(), Fault>, Outage> {
        // In the spelling of the config: one and the same request may name its host with and without a port.
        let base = self.sites.base(&shown.facts.host).map(|base| base.origin().ascii_serialization()).unwrap_or_default();
        let parts: [&[u8]; 5] =
            [b"dpop", shown.jkt.as_bytes(), proof.jti().as_bytes(), base.as_bytes(), shown.facts.path.as_str().as_bytes()];
        // Another replica's clock may be behind, and take the proof that much longer.
        let until = counts_until.plus(self.leeway.max(WINDOW));
        let first = self.sessions.remember(&parts, until).await?;
        Ok(if first { Ok(()) } else { Err(Fault::new(Reason::DpopProofReplayed, "its jti was there before")) })
    }

    fn new_nonce(&self, now: UnixTime) -> Option<HeaderValue> {
        HeaderValue::try_from(secret::encode(&self.ring.seal(CONTEXT, &now.0.to_be_bytes()))).ok()
    }

    /// When we gave out a nonce, if we did and it still counts.
    fn given_at(&self, nonce: &str, now: UnixTime) -> Option<UnixTime> {
        let opened = self.ring.open(CONTEXT, &secret::decode(nonce)?)?;
        let given = UnixTime(u64::from_be_bytes(opened.as_slice().try_into().ok()?));
        // Another replica's clock may be ahead.
        (now < given.plus(NONCE_COUNTS) && given <= now.plus(self.leeway)).then_some(given)
    }
}

/// What seals of nonces are bound to.
const CONTEXT: &[u8] = b"dpop-nonce";
