//! `doorward check`.

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::sync::Arc;

use super::{ConfigArgs, complain, complain_of, say};
use crate::app::online::{self, Verdict};
use crate::clock::SystemClock;
use crate::config::{Config, Listen, LocalListen, RedisServers, Severity, Sources, StoreKind, load};
use crate::route::{Access, DryRun, Route};

#[derive(clap::Args)]
pub(super) struct Check {
    #[command(flatten)]
    config: ConfigArgs,
    /// Also ask provider, token issuers, store and upstreams whether they are there and as the config expects; print the keys to pin. Writes nothing
    #[arg(long)]
    online: bool,
}

impl Check {
    pub(super) fn execute(self, environment: BTreeMap<String, String>) -> ExitCode {
        let sources = Sources { file: self.config.config.as_deref(), environment, flags: Vec::new() };
        match load(&sources) {
            Ok(config) => {
                complain_of(&config.warnings);
                describe(&config);
                if self.online { ask(config) } else { ExitCode::SUCCESS }
            }
            Err(problems) => {
                complain_of(&problems);
                let errors = problems.iter().filter(|problem| problem.severity == Severity::Error).count();
                say(format!("{errors} {} to mend; the gateway would not start", if errors == 1 { "problem" } else { "problems" }));
                ExitCode::FAILURE
            }
        }
    }
}

/// Asks whoever the config names, and tells what each of them said.
fn ask(config: Config) -> ExitCode {
    say("");
    let found = match online::ask(config, Arc::new(SystemClock)) {
        Ok(found) => found,
        Err(error) => {
            complain(format!("error: {error}"));
            return ExitCode::FAILURE;
        }
    };
    found.iter().for_each(say);
    match found.iter().filter(|found| found.verdict == Verdict::Problem).count() {
        0 => {
            say("everybody answers");
            ExitCode::SUCCESS
        }
        1 => {
            say("1 problem");
            ExitCode::FAILURE
        }
        more => {
            say(format!("{more} problems"));
            ExitCode::FAILURE
        }
    }
}

/// What the config comes to, so that a reader sees whether it is what was meant.
fn describe(config: &Config) {
    let first = config.gateway.sites.first().as_str().trim_end_matches('/');
    let prefix = &config.gateway.prefix;
    say("The configuration is sound.");
    let places = |places: &[Listen]| places.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    let listeners = &config.gateway.listeners;
    say(format!("listens on     {} (admin on {})", places(&listeners.listen), config.gateway.admin.listen));
    if !listeners.redirect_from.is_empty() {
        say(format!("sends on       from {} to https", places(&listeners.redirect_from)));
    }
    say(format!("is reached at  {first}"));
    for provider in &config.providers {
        say(format!(
            "signs in at    {} ({:?}); register {first}{} and {first}{prefix}/signed_out there",
            provider.issuer,
            provider.id,
            provider.callback.clone().unwrap_or_else(|| format!("{prefix}/callback"))
        ));
        say(format!("               back-channel logout: {first}{prefix}/backchannel_logout"));
        if let Some(jwk) = provider.client_auth.public_jwk() {
            say(format!("               public key: {jwk}"));
        }
    }
    if let Some(users) = &config.users {
        let file = users.file.as_ref().map(|file| format!(" and in {}", file.display())).unwrap_or_default();
        say(format!("signs in at    a form of its own: {} in the config{file}", users.accounts.len()));
    }
    for issuer in &config.token_issuers {
        say(format!("takes tokens   of {}", issuer.issuer));
    }
    if let Some(keys) = &config.api_keys {
        say(format!("takes keys     of {} in {}", keys.file.display(), keys.header));
    }
    if let Some(token) = &config.token {
        let more = token.path.iter().map(|path| format!(" and {first}{path}")).collect::<String>();
        say(format!("gives tokens   at {first}{prefix}/token{more}"));
    }
    if config.routes.table.routes().iter().any(|route| route.assertion.is_some()) {
        say(format!("signs who it is; keys at {first}{prefix}/jwks"));
    }
    let store = match &config.store.kind {
        StoreKind::Embedded { path } => format!("in {}", path.display()),
        StoreKind::Memory => "in memory: they end with the process".to_owned(),
        StoreKind::Redis(redis) => match &redis.servers {
            RedisServers::One(url) => format!("in Redis at {url}"),
            RedisServers::Sentinels { urls, master_name, .. } => format!("in Redis, {master_name} by the sentinels at {}", urls.join(", ")),
            RedisServers::Cluster(urls) => format!("in the Redis Cluster with {}", urls.join(", ")),
        },
    };
    say(format!("keeps sessions {store}"));
    for listener in &config.outgoing {
        let place = match &listener.listen {
            LocalListen::Tcp(address) => address.to_string(),
            LocalListen::Unix(path, _) => path.display().to_string(),
        };
        let hosts = listener.hosts.iter().map(|host| format!("{}:{}", host.name, host.port)).collect::<Vec<_>>().join(", ");
        say(format!("adds a token   to what leaves through {place} ({:?}) for {hosts}", listener.id));
    }
    say("routes, in the order in which they are tried:");
    for route in config.routes.table.in_order() {
        say(format!("  {}", line(config, route)));
    }
}

fn line(config: &Config, route: &Route) -> String {
    let methods = match &route.methods {
        Some(methods) => methods.iter().map(http::Method::as_str).collect::<Vec<_>>().join(","),
        None => "any method".to_owned(),
    };
    let whom = match &route.access {
        Access::Public => "public".to_owned(),
        Access::Optional(_) => "optional".to_owned(),
        Access::Protected(accept, policy) => {
            let kinds = accept.kinds.iter().map(|kind| kind.as_str()).collect::<Vec<_>>().join(" or ");
            let deny = if route.deny.is_some() { ", deny first" } else { "" };
            let dry_run = if route.dry_run == DryRun::On { " in dry run" } else { "" };
            format!("{kinds}, policy {:?}{deny}{dry_run}", policy.id)
        }
    };
    let upstream = route.upstream.and_then(|id| config.routes.upstreams.get(id.0));
    let upstream = upstream.map_or_else(|| "forward-auth only".to_owned(), ToString::to_string);
    let networks = route.networks.as_ref().map(|networks| format!("from {networks}  ")).unwrap_or_default();
    format!("{:<16} {}  {}  {methods}  {networks}[{whom}] -> {upstream}", route.id, route.host, route.path)
}
