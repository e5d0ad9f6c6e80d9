//! The integration tests: one binary, one module a capability. `harness` is what they stand on.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "test code fails loudly"
)]

mod harness;

mod api_keys; // programs show keys of the gateway's own: scopes, ends, floods, a file that changes
mod architecture; // the five floors, held against the code
mod assertion; // who somebody is, signed for one upstream: what it says, whose keys, how they change
mod balancing; // several upstream addresses: shares, names that move, those that fail, what is sent twice, limits and times
mod basic; // programs and browsers show a name and a password with each request
mod bearer; // programs show tokens: RFC 6750, issuers, keys that change or cannot be had
mod bearer_places; // tokens in query, form, other headers and subprotocols: where the route says so, and never further
mod bounds; // how many logins may be under way: of a browser, of an address, in all; and how old an attempt may be
mod caching; // what was made for somebody is kept by nobody else: a real cache in front, the back button
mod callback; // back button, bookmark, twice, stolen, forged: nothing is spent
mod certificates; // client certificates: tokens bound to one, somebody known by one, the header of a proxy
mod check_online; // `doorward check --online`: who is there, whose key it is, and what does not go together
mod chromium; // what a person sees: every page in a real browser, without a word from its console
mod client_address; // from where a request comes, by which header; routes for some networks
mod commands; // what the commands print, where, and how they end
mod cors; // pages of listed origins read our refusals, in a real browser
mod demo; // `doorward demo`: its pages, and the lines that it prints to paste
mod deploy; // what is in deploy/ is what it says it is
mod docs; // every config in docs/ loads, every link leads somewhere, what is quoted stands there
mod dpop; // tokens that are bound to a key: every check of a proof alone, once on all replicas, nonces, the real provider
mod dry_run; // a policy on trial: who is known passes, and it is told what would have been
mod endings; // the provider says that a session has ended: back-channel and front-channel logout
mod everywhere; // what is ended at one process is over at the other, and what stays open there closes
mod explain; // `doorward explain`: what it tells is what the gateway does; what it tells nobody
mod explain_docs; // docs/explain.md shows what the command prints
mod flows; // ten tabs, failures that lead on, ways in circles that end, logins that another site begins
mod foreign_tokens; // what a phone's SDK gives counts when it was issued for us: Facebook, a check, an exchange
mod formats; // what an earlier release wrote is read by this one
mod forward_auth; // the two endpoints by hand, then behind real nginx and Caddy
mod forward_auth_sets; // each set of headers, read alone; real Traefik and real Envoy by our files
mod fuzz_corpus; // what holds whatever a stranger sends, over the inputs that fuzzing kept
mod grpc; // real gRPC, both ends of it: every kind of call, trailers, deadlines, refusals, sign-outs
mod headers; // what identity, cookies and tokens look like to the upstream, whatever was sent
mod helm; // the chart, rendered by the real helm
mod hostile; // a provider that lies: every lie has its reason, and nobody is let in
mod http2_upstream; // HTTP/2 to the upstream: versions, hosts, upgrades, what streams end with
mod import; // what becomes of an oauth2-proxy's configuration, option by option, and what is said of it
mod ingress_nginx; // what that controller writes into its nginx for our annotations, its cache of answers too
mod introspection; // opaque tokens: their issuer is asked, and believed where its answer can be read
mod issuers; // issuers as they are: where their keys lie, ID tokens, keys mixed up and withdrawn
mod kept_forms; // a form that its sender's session did not outlive
mod limits; // bounds as the config sets them: what is cut, and when
mod listening; // where it listens: lists, unix sockets, sockets of systemd; what it tells systemd
mod local_accounts; // people who sign in on the gateway's own form: passwords, codes, guessing
mod login; // a browser signs in through the real provider, comes back, signs out
mod model; // sessions against a small model: random interleavings of everything that happens to them
mod mounted_app; // real apps from PyPI behind a prefix: their redirects, cookies, links and passwords
mod narrow; // rules in the query of a question: they narrow, where the config lets them
mod observability; // latencies, people in the log, the dashboard and the alerts: what they name is there, and promtool agrees
mod old_snippets; // what was written for oauth2-proxy goes on: nginx by its documentation, case by case
mod operations; // the admin listener, metrics, logs, traces, draining
mod outbound; // tokens that the gateway obtains for upstreams: kept, renewed, shared, given up; and the caller's own passed on
mod outgoing; // calls that leave through a listener of this machine: listed hosts, and a token
mod paths; // one reading of a path: matched, decided about and forwarded
mod peers; // the tests' own peers are what they are said to be
mod policy; // every rule with its yes and its no
mod provider_keys; // what a provider is told and asked for: fixed and passed-on parameters, where claims stand, a redirect path of its own
mod provider_leg; // no shared secret towards the provider: keys, certificates, pushed requests, bound tokens, pins
mod provider_network; // how a provider is reached: proxies, private authorities, inside addresses, written endpoints
mod providers; // several providers, and one that is down
mod proxy; // protocols, bodies, upgrades, failures, routes: a request on its way through
mod proxy_protocol; // balancers that pass bytes on say for whom: whom they name, and who may not
mod readme; // every config in README.md loads
mod redirects; // where people may be sent: never to a stranger's place
mod redis_topologies; // sentinels, clusters, replicas, and caches that hear of changes: under load, while servers die
mod refresh; // new tokens before the old ones end: what ends a session, what does not, who waits
mod refresh_together; // the same over several processes: one refresh token is spent once
mod reload; // another config while it serves: at once for all cores, nothing fails, nothing breaks, a bad one changes nothing
mod resource_metadata; // RFC 9728: from a 401 to a token; the official MCP client
mod rolling; // under load: reloads, and processes that take each other's place, cost no request and no stream
mod route_keys; // what a route says of itself: login, scopes, deny, addresses in a file, words for the refused, quiet logs, slashes
mod server_names; // several certificates by name, and requests that go by their host all the same
mod session_list; // who is signed in where: the session page, the admin listener, `doorward sessions`
mod session_tokens; // sessions that programs show: their streams, endings by the provider, bound routes, guesses at two places
mod sessions; // cookies, lifetimes, who is signed in
mod sign_out; // signing out, here and at the provider
mod slow_ends; // readers and writers that are slow or stop: the gateway holds no more of a body than it says
mod smuggling; // one message is never two requests; floods and limits
mod step_up; // what a login has to be worth, asked for and held to: browsers, programs, tokens
mod stores; // one contract, two processes on one Redis, outages, restarts, copies
mod streams; // WebSockets and event streams end with their session, keep it in use, and notice nothing else
mod streams_together; // the same over several processes
mod systems; // four systems by their original steps: consumers, apps and providers in processes of their own
mod tenants; // organisations behind one address, each with an issuer of its own
mod to_https; // plain listeners that send people on, hsts, and a path for balancers
mod token_endpoint; // apps without a browser sign in with a password: tokens that are sessions, guessing, refusals
mod tracing; // spans at a collector: what they say, what never stands in them, who decides what is recorded, a collector that is away
mod upstream_leg; // the way to the upstream: TLS, host, path, what it is told, what is set on its answers
