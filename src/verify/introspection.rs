//! Opaque tokens, by asking their issuer (RFC 7662).
//!
//! Answers are kept for `introspection_cache`, never past the token's `exp`; refusals for seconds only, in a place of their own, so that what a
//! stranger sends drives out no good token. Whoever asks about the same token at the same time shares one question.

use std::sync::Arc;
use std::time::Duration;

use quick_cache::Weighter;
use quick_cache::sync::Cache;

use super::flights::Flights;
use super::memory::{TokenHash, hash_of};
use super::{TokenVerifier, VerifiedToken, VerifyFuture, identity};
use crate::clock::{SharedClock, UnixTime};
use crate::fault::{Fault, Outage, Trouble};
use crate::identity::ClaimMapping;
use crate::provider::introspection::IntrospectionEndpoint;
use crate::secret::Secret;
use crate::tasks::Tasks;
use crate::token::{Audience, IntrospectionRules};

/// How much is kept of tokens that count, in bytes of answers; their claims take a few times as much.
const MOST_BYTES: u64 = 8 << 20;
/// What an answer takes beside its length.
const OVERHEAD_BYTES: u64 = 256;
/// How many that usually are: sizes the table only.
const USUAL_ANSWERS: usize = 8 * 1024;
/// How many refusals are kept.
const MOST_REFUSALS: usize = 4 * 1024;
/// How long a refusal is kept at most.
const REFUSAL_KEPT: Duration = Duration::from_secs(10);

/// What one issuer's opaque tokens must be like.
#[derive(Clone, Debug)]
pub struct OpaqueTokens {
    /// By what its answers are read.
    pub rules: IntrospectionRules,
    /// For whom its tokens must be meant where a route says nothing.
    pub audience: Audience,
    /// Which of the answer's members count.
    pub mapping: ClaimMapping,
    /// How long an answer is kept; zero: not at all.
    pub cache: Duration,
}

/// Asks one issuer about its opaque tokens.
pub struct IntrospectionVerifier {
    shared: Arc<Shared>,
    flights: Flights<Result<Kept, Outage>>,
}

struct Shared {
    tokens: OpaqueTokens,
    endpoint: IntrospectionEndpoint,
    active: Cache<TokenHash, Kept, Bytes>,
    refused: Cache<TokenHash, Kept>,
    clock: SharedClock,
}

/// An answer that counts until a time.
#[derive(Clone)]
struct Kept {
    answer: Arc<Result<VerifiedToken, Fault>>,
    until: UnixTime,
    bytes: u64,
}

#[derive(Clone)]
struct Bytes;

impl Weighter<TokenHash, Kept> for Bytes {
    fn weight(&self, _: &TokenHash, kept: &Kept) -> u64 {
        kept.bytes
    }
}

impl IntrospectionVerifier {
    /// Nothing is asked yet.
    #[must_use]
    pub fn new(tokens: OpaqueTokens, endpoint: IntrospectionEndpoint, clock: SharedClock, tasks: Tasks) -> Self {
        let active = Cache::with_weighter(USUAL_ANSWERS, MOST_BYTES, Bytes);
        let shared = Shared { tokens, endpoint, active, refused: Cache::new(MOST_REFUSALS), clock };
        Self { shared: Arc::new(shared), flights: Flights::new(tasks) }
    }

    async fn check(&self, token: &Secret) -> Result<VerifiedToken, Trouble> {
        let hash = hash_of(token);
        let kept = match self.shared.kept(&hash) {
            Some(kept) => kept,
            None => {
                let asked = self.flights.join(
                    hash,
                    || self.shared.kept(&hash).map(Ok),
                    || {
                        let (shared, token) = (Arc::clone(&self.shared), token.clone());
                        async move { shared.ask(hash, &token).await }
                    },
                );
                asked.await.map_err(Outage::introspection)??
            }
        };
        Ok((*kept.answer).clone()?)
    }
}

impl Shared {
    fn kept(&self, hash: &TokenHash) -> Option<Kept> {
        let now = self.clock.now();
        let alive = |kept: &Kept| now < kept.until;
        self.active.get(hash).filter(alive).or_else(|| self.refused.get(hash).filter(alive))
    }

    async fn ask(&self, hash: TokenHash, token: &Secret) -> Result<Kept, Outage> {
        let body = self.endpoint.ask(token).await?;
        let tokens = &self.tokens;
        let answer = tokens.rules.read(&body).map_err(|malformed| {
            Outage::introspection(format!("the answer of {:?} cannot be read: {}", tokens.rules.issuer, malformed.0))
        })?;
        let answer = answer.and_then(|token| identity(&tokens.rules.issuer, &tokens.mapping, token));
        let now = self.clock.now();
        let until = match &answer {
            Ok(verified) => now.plus(tokens.cache).min(verified.terms.expires_at),
            Err(_) => now.plus(tokens.cache.min(REFUSAL_KEPT)),
        };
        let counts = answer.is_ok();
        let kept = Kept { answer: Arc::new(answer), until, bytes: body.len() as u64 + OVERHEAD_BYTES };
        if counts {
            self.refused.remove(&hash);
        } else {
            self.active.remove(&hash);
        }
        match (now < until, counts) {
            (true, true) => self.active.insert(hash, kept.clone()),
            (true, false) => self.refused.insert(hash, kept.clone()),
            (false, _) => {}
        }
        Ok(kept)
    }
}

impl TokenVerifier for IntrospectionVerifier {
    fn issuer(&self) -> &str {
        &self.shared.tokens.rules.issuer
    }

    fn audience(&self) -> &Audience {
        &self.shared.tokens.audience
    }

    fn verify<'a>(&'a self, token: &'a Secret) -> VerifyFuture<'a> {
        Box::pin(self.check(token))
    }
}
