//! JWTs: by their signature alone, seen for the first time, shown again.

use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use doorward::clock::SharedClock;
use doorward::provider::keys::JwksCache;
use doorward::secret::Secret;
use doorward::tasks::Tasks;
use doorward::token::{AccessTokenRules, Algorithm, Audience, TokenType};
use doorward::verify::{JwtVerifier, TokenMemory, TokenVerifier, Verifiers};

use crate::measure::{curve, step};
use crate::people::{self, NOW, Still};
use crate::signer::{AUDIENCE, ISSUER, Key, parts};

pub fn run() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let clock: SharedClock = Arc::new(Still);
    let keys = [Key::rs256(), Key::es256(), Key::ed_dsa()];
    let file = std::env::temp_dir().join(format!("doorward-micro-{}.json", std::process::id()));
    std::fs::write(&file, Key::set(&keys)).unwrap();
    let published = Arc::new(JwksCache::of_file(file.clone(), Arc::clone(&clock), Tasks::new(runtime.handle().clone())));
    let rules = AccessTokenRules {
        issuer: ISSUER.to_owned(),
        audience: Audience::AnyOf(Arc::new([AUDIENCE.to_owned()])),
        algorithms: Algorithm::DEFAULT.to_vec(),
        typ: TokenType::AtJwt,
        client_id: None,
        scope_claim: None,
        leeway: Duration::from_secs(60),
    };
    let memory = Arc::new(TokenMemory::new());
    let first: Arc<dyn TokenVerifier> = Arc::new(JwtVerifier::new(rules, people::mapping(), published, Arc::clone(&memory)));
    let again = Verifiers::new([Arc::clone(&first)], None, memory, Arc::clone(&clock));

    for key in &keys {
        let token = key.token(0, NOW.0);
        let (alone, secret) = (parts(&token), Secret::new(token.as_str()));
        // It is remembered from here on; the keys are read.
        runtime.block_on(again.verify(&secret, None)).unwrap();
        curve(
            &format!("token: {} of {} bytes", key.algorithm, token.len()),
            vec![
                step("its signature alone", || key.check(&alone)),
                step("seen for the first time", || at_once(first.verify(&secret)).unwrap()),
                step("shown again", || at_once(again.verify(&secret, None)).unwrap()),
            ],
        );
    }
    std::fs::remove_file(file).unwrap();
}

/// What needs no wait.
fn at_once<T>(work: impl Future<Output = T>) -> T {
    match pin!(work).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(done) => done,
        Poll::Pending => panic!("it waits"),
    }
}
