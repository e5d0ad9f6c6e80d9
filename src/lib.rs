//! Doorward puts login in front of what has none: a reverse proxy that sends browsers through OpenID Connect, checks the tokens of
//! programs, and tells the upstream who it is.
//!
//! # The life of a request
//!
//! 1. A request becomes plain *facts* ([`request::RequestFacts`]).
//! 2. Facts select a *route* ([`route::RouteTable`]).
//! 3. The route says which *credential* is read ([`authenticate::present`]).
//! 4. The credential is *authenticated*, the only step that may wait on a network, into anonymous, rejected or somebody
//!    ([`credential::Authentication`]), or an outage ([`fault::Outage`]).
//! 5. A pure function *decides* ([`decision::decide`]): permit, challenge, deny.
//! 6. The edge *acts*: forwards, answers 200, redirects, 401, 403; an outage is 503.
//!
//! Proxy and forward-auth differ only in 1 (where facts come from) and 6 (what a permit does).
//!
//! # Five floors, imports only downward
//!
//! ```text
//! 5 assembly  main  cli  app  config  demo  import   sees everything; nothing imports it
//! 4 edge      server  endpoint                       HTTP in and out; one file per endpoint
//! 3 work      authenticate  store  provider          everything that waits on a network or a disk
//!             verify  outbound  upstream
//!             telemetry  tasks
//! 2 rules     decision  respond  route               pure: no async, no clock reads, no sockets
//!             policy  token  header
//! 1 words     request  identity  credential          plain data and its own small laws
//!             session  login  fault  reason
//!             secret  clock
//! ```
//!
//! Sideways on one floor only along these arrows (`tests/it/architecture.rs` reads the imports and holds them to it):
//!
//! - 5: main → cli → app, config, demo, import; demo → app, config; app → config
//! - 4: endpoint → server (what a connection and a request's body are)
//! - 3: all → telemetry, tasks; authenticate → store, provider, verify; verify, outbound → provider, store; provider → store
//! - 2: respond → decision, route, token; decision → route, policy; route → policy, header
//! - 1: session → identity, secret, clock, reason; login → request, secret, clock; credential → identity, session, secret, fault, reason;
//!   identity → clock; fault → reason
//!
//! `config` stands on top on purpose: it produces words and rules (a route table, policies) and settings; nobody below sees it, so no module
//! reaches for an option that is not its own.
//!
//! # Threads
//!
//! A single-threaded runtime per core carries requests, each with its own connections to upstreams; provider, store and accepting live on a
//! control runtime beside them, reached by message ([`tasks::Tasks`]). A request with a known session does no I/O but the upstream's.
//!
//! # Generations
//!
//! All that is made of one config is a *generation* ([`app`]). A reload makes the next one beside it and has all cores go over to it at once; a
//! request, and a stream that it opened, ends on the generation that it began with. Store, open sessions and streams, sealing keys, sockets,
//! counts and logs belong to the process and outlive every generation.

pub mod app;
pub mod authenticate;
pub mod cli;
pub mod clock;
pub mod config;
pub mod credential;
pub mod decision;
pub mod demo;
pub mod endpoint;
pub mod fault;
pub mod header;
pub mod identity;
pub mod import;
pub mod login;
pub mod outbound;
pub mod policy;
pub mod provider;
pub mod reason;
pub mod request;
pub mod respond;
pub mod route;
pub mod secret;
pub mod server;
pub mod session;
pub mod store;
pub mod tasks;
pub mod telemetry;
pub mod token;
pub mod upstream;
pub mod verify;
