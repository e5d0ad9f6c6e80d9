//! An oauth2-proxy as it was set up, whatever files said so: the structured config takes the place of the options that it replaces.

use super::given::{Given, Givens};
use super::options::by_flag;
use super::report::{Part, Report};
use super::source::{Around, Collected};
use super::{alpha, legacy};

/// All of it.
#[derive(Default)]
pub struct Old {
    /// Options that are neither a provider's, nor about upstreams or headers.
    pub rest: Givens,
    /// Where people signed in.
    pub providers: Vec<OldProvider>,
    /// Where requests went.
    pub upstreams: Vec<OldUpstream>,
    /// How it was said that paths go on raw.
    pub raw_path: Option<String>,
    /// What the upstream was told.
    pub request_headers: Vec<OldHeader>,
    /// What browsers, or the proxy in front, were told.
    pub response_headers: Vec<OldHeader>,
    /// What stands around it.
    pub around: Around,
}

/// A provider.
#[derive(Default)]
pub struct OldProvider {
    /// Its options, by the names that flags give them.
    pub givens: Givens,
    /// Its `id`.
    pub id: Option<String>,
    /// `loginURLParameters`.
    pub parameters: Vec<LoginParameter>,
}

/// A parameter of the authorization request.
#[derive(Clone, Debug, Default)]
pub struct LoginParameter {
    /// How it was said.
    pub said: String,
    /// Its name.
    pub name: String,
    /// What is sent where nothing else is.
    pub default: Vec<String>,
    /// Values that `start` may set.
    pub values: Vec<String>,
    /// Patterns of such values, not anchored.
    pub patterns: Vec<String>,
}

/// An upstream.
#[derive(Clone, Debug)]
pub struct OldUpstream {
    /// How it was said.
    pub said: String,
    /// Its `id`.
    pub id: Option<String>,
    /// Which requests it got.
    pub path: OldPath,
    /// What answered them.
    pub target: Target,
    /// What stood in place of the path; of a pattern with its groups.
    pub rewrite: Option<String>,
    /// Whether the browser's `Host` went on; and how that was said.
    pub pass_host: (bool, String),
    /// How it was said that its certificate is not looked at.
    pub insecure: Option<String>,
    /// How long it might take; Go's spelling.
    pub timeout: Option<String>,
}

/// Which requests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OldPath {
    /// This one only.
    Exact(String),
    /// What begins so; ends in `/`.
    Prefix(String),
    /// What this pattern finds.
    Pattern(String),
}

/// What answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// `http://host:port` or https.
    Http(String),
    /// A socket's path.
    Unix(String),
    /// A status.
    Static(u16),
    /// Files of a folder.
    Files(String),
    /// None of these.
    Unknown(String),
}

/// A header that was added. Without `Debug`: values may be secrets.
#[derive(Clone)]
pub struct OldHeader {
    /// How it was said.
    pub said: String,
    /// Its name.
    pub name: String,
    /// One line each.
    pub values: Vec<OldValue>,
    /// Whether what the request had stayed.
    pub preserved: bool,
}

/// What a header said.
#[derive(Clone)]
pub enum OldValue {
    /// Something of the session.
    Claim {
        /// Its name there.
        claim: String,
        /// What stands before it.
        prefix: String,
        /// With this password, as Basic.
        password: Option<OldSecret>,
    },
    /// The same for everybody.
    Fixed(OldSecret),
}

/// A secret.
#[derive(Clone)]
pub enum OldSecret {
    /// The secret itself.
    Value(String),
    /// A file that holds it.
    File(String),
    /// Where else it is.
    Kept(String),
}

/// The options that the structured config replaces, by what they are about.
const OF_PROVIDERS: [&str; 24] = [
    "provider",
    "client-",
    "login-url",
    "redeem-url",
    "profile-url",
    "validate-url",
    "resource",
    "scope",
    "prompt",
    "approval-prompt",
    "acr-values",
    "user-id-claim",
    "allowed-group",
    "allowed-role",
    "jwt-key",
    "pubjwk-url",
    "backend-logout-url",
    "code-challenge-method",
    "force-code-challenge-method",
    "skip-claims-from-profile-url",
    "use-system-trust-store",
    "oidc",
    "auth-request-response-mode",
    "entra-id",
];
const OF_UPSTREAMS: [&str; 7] = [
    "upstream",
    "pass-host-header",
    "proxy-websockets",
    "ssl-upstream-insecure-skip-verify",
    "flush-interval",
    "upstream-timeout",
    "disable-keep-alives",
];
const OF_HEADERS: [&str; 10] = [
    "pass-basic-auth",
    "pass-access-token",
    "pass-user-headers",
    "pass-authorization-header",
    "set-basic-auth",
    "set-xauthrequest",
    "set-authorization-header",
    "prefer-email-to-user",
    "basic-auth-password",
    "skip-auth-strip-headers",
];
const OF_SERVER: [&str; 9] = [
    "http-address",
    "https-address",
    "tls-cert-file",
    "tls-key-file",
    "tls-min-version",
    "tls-cipher-suite",
    "metrics-address",
    "metrics-secure-address",
    "metrics-tls-",
];

/// Whether an option is one of a provider's.
fn of_providers(name: &str) -> bool {
    let vendor = ["azure", "bitbucket", "github", "gitlab", "google", "keycloak"].iter().any(|vendor| name.starts_with(vendor));
    let general = [
        "skip-oidc-discovery",
        "insecure-oidc-allow-unverified-email",
        "insecure-oidc-skip-issuer-verification",
        "insecure-oidc-skip-nonce",
    ];
    vendor
        || general.contains(&name)
        || OF_PROVIDERS.iter().any(|start| {
            name == *start
                || ((start.ends_with('-') || matches!(*start, "provider" | "oidc" | "entra-id" | "jwt-key")) && name.starts_with(start))
        })
}

impl Old {
    /// Whether answers carry who somebody is, for a proxy in front that asked.
    #[must_use]
    pub fn tells_a_proxy(&self) -> bool {
        self.response_headers.iter().flat_map(|header| &header.values).any(|value| matches!(value, OldValue::Claim { .. }))
    }

    /// Puts together what the files say.
    pub fn new(collected: Collected, report: &mut Report) -> Self {
        let Collected { flags, variables, file, alpha: structured, unknown, around, absent, .. } = collected;
        for absent in absent {
            report.first(absent);
        }
        for (said, nearest) in unknown {
            let meant = nearest.map(|name| format!("; did you mean {name}?")).unwrap_or_default();
            report.note(Part::Missing, said, format!("is no option of oauth2-proxy 7.15{meant}"));
        }
        let mut rest = file;
        rest.overrule(variables);
        rest.overrule(flags);
        let mut of_provider = rest.split_off(of_providers);
        let mut of_upstreams = rest.split_off(|name| OF_UPSTREAMS.contains(&name));
        let mut of_headers = rest.split_off(|name| OF_HEADERS.contains(&name));
        let mut old = Self { rest, around, ..Self::default() };
        match structured {
            Some((name, value)) => {
                let of_server = old
                    .rest
                    .split_off(|name| OF_SERVER.iter().any(|start| name == *start || (start.ends_with('-') && name.starts_with(start))));
                let replaced =
                    [("providers", &mut of_provider), ("upstreamConfig", &mut of_upstreams), ("injectRequestHeaders", &mut of_headers)];
                for (part, givens) in replaced {
                    for given in std::mem::take(givens).all() {
                        report.say(
                            Part::Different,
                            given,
                            format!("replaced by {part} of {name}, beside which oauth2-proxy does not take it"),
                        );
                    }
                }
                for given in of_server.all() {
                    report.say(Part::Different, given, format!("replaced by server of {name}, beside which oauth2-proxy does not take it"));
                }
                alpha::read(&value, &mut old, report);
            }
            None => {
                old.upstreams = legacy::upstreams(&of_upstreams);
                (old.request_headers, old.response_headers) = legacy::headers(&of_headers, report);
                for given in of_upstreams.all().chain(of_headers.all()) {
                    old.rest.add(given.clone());
                }
                old.providers.push(OldProvider { givens: of_provider, ..OldProvider::default() });
            }
        }
        old
    }
}

/// An option that the structured config says in its own words.
pub fn given(option: &str, said: String, values: Vec<String>) -> Option<Given> {
    by_flag(option).map(|row| Given::new(row, said, values))
}
