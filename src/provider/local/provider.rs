//! The local accounts as a provider: what was typed becomes a proof, the proof a code, the code somebody who has signed in.

use std::net::IpAddr;
use std::sync::Arc;

use serde_json::{Value, json};
use url::Url;

use super::hashing::Hashing;
use super::password::PasswordHash;
use super::totp::STEP;
use super::{AccountSource, Denied, Guess, GuessLimits, Guessed, Throttle};
use crate::clock::SharedClock;
use crate::fault::{Fault, Trouble};
use crate::header::PreparedHeaders;
use crate::identity::{ClaimMapping, ClaimPath, Claims, EmailVerification, Identity, Source};
use crate::login::{Asked, PendingLogin};
use crate::provider::{AuthorizationResponse, IdentityProvider, ProviderFuture, Refreshed, SignedIn};
use crate::reason::Reason;
use crate::secret::{HmacKey, Secret, decode, encode, random, same};
use crate::session::{Session, Tokens};
use crate::store::Sessions;
use crate::tasks::Tasks;
use crate::token::LogoutToken;

/// `acr` of a password alone.
const PWD: &str = "pwd";
/// `acr` of a password and a code.
const MFA: &str = "mfa";

/// What the local accounts are called.
#[derive(Clone, Debug)]
pub struct LocalSettings {
    /// [`super::LOCAL`].
    pub id: String,
    /// On the chooser.
    pub name: String,
    /// The first `public_url`'s origin: (`iss`, `sub`) is who somebody is.
    pub issuer: String,
    /// How many guesses may fail.
    pub guesses: GuessLimits,
}

/// What a login has to show.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Needed {
    /// A password.
    Password,
    /// A password and a code.
    Code,
    /// An `acr` that no account of ours ever has.
    Beyond,
}

/// Somebody whose password, and code where one was needed, was right.
#[derive(Clone)]
pub struct Proof {
    claims: Claims,
    has_totp: bool,
}

impl Proof {
    /// Whose.
    #[must_use]
    pub fn name(&self) -> &str {
        self.claims.get("sub").and_then(Value::as_str).unwrap_or_default()
    }
}

/// The accounts of this gateway.
pub struct LocalProvider {
    settings: LocalSettings,
    accounts: Arc<AccountSource>,
    throttle: Throttle,
    hashing: Hashing,
    sessions: Arc<Sessions<PreparedHeaders>>,
    clock: SharedClock,
    mapping: ClaimMapping,
    /// Of this process: a code is made and taken within one request.
    key: HmacKey,
}

impl LocalProvider {
    /// Over these accounts; failures and used codes are kept in the store of `sessions`, so that all replicas know of them.
    #[must_use]
    pub fn new(
        settings: LocalSettings,
        accounts: AccountSource,
        sessions: Arc<Sessions<PreparedHeaders>>,
        clock: SharedClock,
        tasks: Tasks,
    ) -> Self {
        Self {
            throttle: Throttle::new(Arc::clone(&sessions), settings.guesses, Arc::clone(&clock)),
            hashing: Hashing::new(tasks),
            accounts: Arc::new(accounts),
            mapping: mapping(),
            key: HmacKey::new(&random()),
            settings,
            sessions,
            clock,
        }
    }

    /// What somebody has to show for this.
    #[must_use]
    pub fn needed(asks: &Asked) -> Needed {
        let any = |acr: &str| asks.acr.iter().any(|wanted| wanted == acr);
        match (asks.acr.is_empty() || any(PWD), any(MFA)) {
            (true, _) => Needed::Password,
            (false, true) => Needed::Code,
            (false, false) => Needed::Beyond,
        }
    }

    /// Judges a name and a password. To be run to its end whether or not the browser waits: a guess that is given up counts.
    ///
    /// # Errors
    /// Why not. A name that nobody has takes as long as a wrong password and is told the same.
    pub async fn check_password(&self, name: &str, password: Secret, from: IpAddr) -> Result<Proof, Denied> {
        self.check_and_fingerprint(name, password, from).await.map(|(proof, _)| proof)
    }

    /// The same, with the fingerprint of the hash that the password was right for.
    pub(super) async fn check_and_fingerprint(&self, name: &str, password: Secret, from: IpAddr) -> Result<(Proof, [u8; 32]), Denied> {
        let guess = Guess { at: Guessed::Password, place: &self.settings.id, name, from };
        let place = self.hashing.place().map_err(Denied::Refused)?;
        let _under_way = self.throttle.admit(guess).await?;
        let (accounts, wanted, now) = (Arc::clone(&self.accounts), name.to_owned(), self.clock.now().0);
        let checked = self.hashing.run(place, move || {
            let accounts = accounts.current();
            let account = accounts.get(&wanted);
            // One hash in any case.
            let real = account.and_then(super::Account::hash);
            let known = real.as_ref().map(PasswordHash::fingerprint);
            let right = real.or_else(|| accounts.decoy(&wanted)).is_some_and(|hash| hash.verify(&password));
            let proof = account
                .zip(known)
                .filter(|_| right)
                .map(|(account, known)| (Proof { claims: claims(account, PWD, now), has_totp: account.totp.is_some() }, known));
            proof.ok_or(if account.is_some() { "the password is wrong" } else { "nobody has this name" })
        });
        match checked.await.map_err(Denied::Refused)? {
            Ok(proof) => {
                self.throttle.succeeded(guess).await?;
                Ok(proof)
            }
            Err(detail) => self.wrong(guess, Reason::PasswordWrong, detail).await,
        }
    }

    /// Somebody whose password was right for the hash of this fingerprint, as their account is now; `None`: the hash is another, or nobody has
    /// the name any more.
    pub(super) async fn look(&self, name: &str, fingerprint: [u8; 32]) -> Result<Option<Proof>, Denied> {
        let (accounts, name, now) = (Arc::clone(&self.accounts), name.to_owned(), self.clock.now().0);
        // The file is looked at, nothing is hashed: not in the queue of those who have to be.
        let looked = tokio::task::spawn_blocking(move || {
            let accounts = accounts.current();
            let account = accounts.get(&name).filter(|account| account.hash().is_some_and(|hash| hash.fingerprint() == fingerprint))?;
            Some(Proof { claims: claims(account, PWD, now), has_totp: account.totp.is_some() })
        });
        looked.await.map_err(|_| Denied::Refused(Fault::new(Reason::Internal, "looking at the accounts broke off")))
    }

    /// Who it is whose password was right.
    pub(super) fn identity_of(&self, proof: Proof) -> Result<Identity, Denied> {
        self.identity(proof.claims).map_err(Denied::Refused)
    }

    /// What follows a right password: a code, or nothing more.
    ///
    /// # Errors
    /// When a code is needed and the account has no authenticator, or when no account can give what is asked.
    pub fn next(proof: &Proof, asks: &Asked) -> Result<Needed, Denied> {
        match Self::needed(asks) {
            Needed::Code if !proof.has_totp => {
                Err(Denied::Refused(Fault::new(Reason::CodeNotSet, format!("{:?} has no totp in the config", proof.name()))))
            }
            Needed::Beyond => Err(Denied::Refused(Fault::new(
                Reason::StepUpNotGiven,
                format!("local accounts give pwd and mfa; this place wants {:?}", asks.acr),
            ))),
            needed => Ok(needed),
        }
    }

    /// Judges the code of somebody whose password was right. Each code counts once, on all replicas.
    ///
    /// # Errors
    /// Why not.
    pub async fn check_code(&self, name: &str, code: &str, from: IpAddr) -> Result<Proof, Denied> {
        let guess = Guess { at: Guessed::Code, place: &self.settings.id, name, from };
        let place = self.hashing.place().map_err(Denied::Refused)?;
        let _under_way = self.throttle.admit(guess).await?;
        let (accounts, wanted, now) = (Arc::clone(&self.accounts), name.to_owned(), self.clock.now());
        // As people type it: apps show six digits in two groups.
        let code: String = code.chars().filter(|c| !c.is_whitespace()).collect();
        let checked = self.hashing.run(place, move || {
            let accounts = accounts.current();
            let account = accounts.get(&wanted)?;
            let step = account.totp_key()?.step_of(&code, now)?;
            Some((step, Proof { claims: claims(account, MFA, now.0), has_totp: true }))
        });
        let Some((step, proof)) = checked.await.map_err(Denied::Refused)? else {
            return self.wrong(guess, Reason::CodeWrong, "the code is wrong, or too old").await;
        };
        // RFC 6238 §5.2: one of them is accepted once. It could come again until the step after it is over.
        let until = crate::clock::UnixTime(step.saturating_add(3).saturating_mul(STEP));
        if !self.sessions.remember(&[b"totp", name.as_bytes(), &step.to_be_bytes()], until).await? {
            return self.wrong(guess, Reason::CodeUsed, "the code was used before").await;
        }
        self.throttle.succeeded(guess).await?;
        Ok(proof)
    }

    async fn wrong<T>(&self, guess: Guess<'_>, reason: Reason, detail: &str) -> Result<T, Denied> {
        self.throttle.failed(guess).await?;
        Err(Denied::Wrong(Fault::new(reason, detail)))
    }

    /// The answer to this attempt for whoever has proved who they are. Its code is good in this process and for this attempt alone.
    #[must_use]
    pub fn answer(&self, attempt: &PendingLogin, proof: &Proof) -> AuthorizationResponse {
        let claims = Value::Object(proof.claims.clone()).to_string();
        let tag = self.key.tag(&[attempt.nonce.as_bytes(), claims.as_bytes()]);
        let code = format!("{}.{}", encode(claims.as_bytes()), encode(&tag));
        AuthorizationResponse { code: Some(Secret::new(code)), iss: None, error: None }
    }

    /// Whom these claims of an account name.
    ///
    /// # Errors
    /// [`Reason::Internal`] where they name nobody: no account is without a name.
    pub fn identity(&self, claims: Claims) -> Result<Identity, Fault> {
        let source = Source::Provider(self.settings.id.as_str().into());
        let identity = Identity::from_claims(&self.settings.issuer, source, &self.mapping, claims);
        identity.ok_or_else(|| Fault::new(Reason::Internal, "an account without a name"))
    }

    async fn completion(&self, attempt: &PendingLogin, response: AuthorizationResponse) -> Result<SignedIn, Trouble> {
        let code =
            response.code.ok_or_else(|| Fault::new(Reason::CodeRefused, "local accounts sign in on the form, not at the callback"))?;
        let opened = code.expose().split_once('.').and_then(|(claims, tag)| Some((decode(claims)?, decode(tag)?)));
        let claims = opened.and_then(|(claims, tag)| {
            let good = same(&tag, &self.key.tag(&[attempt.nonce.as_bytes(), &claims]));
            serde_json::from_slice(&claims).ok().filter(|_| good)
        });
        let claims = claims.ok_or_else(|| Fault::new(Reason::CodeRefused, "no code of this process and this attempt"))?;
        Ok(self.somebody(claims)?)
    }

    /// Whoever has proved who they are, where no browser is on its way: see [`LocalProvider::answer`] for those.
    ///
    /// # Errors
    /// None that an account could bring about.
    pub fn signed_in(&self, proof: Proof) -> Result<SignedIn, Fault> {
        self.somebody(proof.claims)
    }

    fn somebody(&self, claims: Claims) -> Result<SignedIn, Fault> {
        Ok(SignedIn {
            identity: self.identity(claims)?,
            client_id: self.settings.id.clone(),
            sid: None,
            id_token: Secret::new(String::new()),
            tokens: None,
        })
    }

    /// The account as it is now, with what the login was worth. Whoever has none any more is not welcome.
    fn again(&self, session: &Session) -> Result<Identity, Fault> {
        let (accounts, name) = (self.accounts.current(), &session.identity.sub);
        let gone = || Fault::new(Reason::RevalidationRefused, format!("{name:?} is no account any more"));
        let mut claims = claims(accounts.get(name).ok_or_else(gone)?, PWD, 0);
        for name in ["acr", "amr", "auth_time"] {
            claims.insert(name.to_owned(), session.identity.claims.get(name).cloned().unwrap_or_default());
        }
        self.identity(claims)
    }
}

/// What we say of somebody, in the words of OpenID Connect Core §5.1 and RFC 8176.
fn claims(account: &super::Account, acr: &str, auth_time: u64) -> Claims {
    let amr = if acr == MFA { json!(["pwd", "otp", "mfa"]) } else { json!(["pwd"]) };
    let mut claims = Claims::new();
    let mut say = |name: &str, value: Value| drop(claims.insert(name.to_owned(), value));
    say("sub", json!(account.name));
    say("preferred_username", json!(account.name));
    if let Some(email) = &account.email {
        say("email", json!(email));
        say("email_verified", json!(true));
    }
    say("groups", json!(account.groups));
    say("acr", json!(acr));
    say("amr", amr);
    say("auth_time", json!(auth_time));
    claims
}

fn mapping() -> ClaimMapping {
    #[expect(clippy::expect_used, reason = "called with literals only")]
    let path = |name| ClaimPath::parse(name).expect("a sound name");
    ClaimMapping {
        user: path("sub"),
        email: Some(path("email")),
        groups: Some(path("groups").into()),
        email_verification: EmailVerification::Required,
    }
}

impl IdentityProvider for LocalProvider {
    fn id(&self) -> &str {
        &self.settings.id
    }

    fn name(&self) -> &str {
        &self.settings.name
    }

    /// The form, beside the callback.
    fn authorization_url<'a>(
        &'a self,
        attempt: &'a mut PendingLogin,
        state: &'a str,
        passed: &'a [(String, String)],
    ) -> ProviderFuture<'a, Url> {
        Box::pin(async move {
            let form = Url::parse(&attempt.redirect_uri).and_then(|callback| callback.join("sign_in"));
            let mut form = form.map_err(|error| Fault::new(Reason::Internal, format!("the callback is no URL: {error}")))?;
            form.query_pairs_mut().append_pair("state", state).extend_pairs(passed.iter().filter(|(name, _)| name == "login_hint"));
            Ok(form)
        })
    }

    fn complete<'a>(&'a self, attempt: &'a PendingLogin, response: AuthorizationResponse) -> ProviderFuture<'a, SignedIn> {
        Box::pin(self.completion(attempt, response))
    }

    fn refresh<'a>(&'a self, _: &'a Session) -> ProviderFuture<'a, Refreshed> {
        // No session of ours holds tokens, so that none is ever due.
        Box::pin(async { Err(Fault::new(Reason::RefreshRefused, "local accounts have no tokens").into()) })
    }

    fn revalidate<'a>(&'a self, session: &'a Session) -> ProviderFuture<'a, Option<Identity>> {
        Box::pin(async move { Ok(Some(self.again(session)?)) })
    }

    fn end_session_url<'a>(&'a self, _: &'a Session, _: &'a str, _: &'a str) -> ProviderFuture<'a, Option<Url>> {
        Box::pin(async { Ok(None) })
    }

    fn revoke<'a>(&'a self, _: &'a Tokens) -> ProviderFuture<'a, ()> {
        Box::pin(async { Ok(()) })
    }

    fn verify_logout_token<'a>(&'a self, _: &'a Secret) -> ProviderFuture<'a, LogoutToken> {
        Box::pin(async { Err(Fault::new(Reason::LogoutIssuer, "local accounts send no logout tokens").into()) })
    }

    fn origins(&self) -> Vec<String> {
        Vec::new()
    }
}
