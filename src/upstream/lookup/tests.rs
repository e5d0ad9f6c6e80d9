use std::collections::HashMap;

use hickory_resolver::proto::op::{Message, ResponseCode};
use hickory_resolver::proto::rr::{RData, Record};
use tokio::net::UdpSocket;

use super::super::tests::on_a_core;
use super::*;

/// What is answered to a question: addresses, or a code.
type Zone = HashMap<(&'static str, RecordType), Result<&'static [&'static str], ResponseCode>>;

const A: RecordType = RecordType::A;
const AAAA: RecordType = RecordType::AAAA;

/// A DNS server; what it does not know it says does not exist.
async fn dns(zone: Zone) -> SocketAddr {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let address = socket.local_addr().unwrap();
    tokio::task::spawn_local(async move {
        let mut bytes = [0; 1500];
        while let Ok((length, from)) = socket.recv_from(&mut bytes).await {
            let mut message = Message::from_vec(&bytes[..length]).unwrap().into_response();
            let query = message.queries[0].clone();
            let known = zone.iter().find(|((name, kind), _)| query.name().to_string() == *name && query.query_type() == *kind);
            match known.map_or(Err(ResponseCode::NXDomain), |(_, said)| *said) {
                Ok(addresses) => {
                    let data = addresses.iter().map(|address| RData::from(address.parse::<IpAddr>().unwrap()));
                    message.add_answers(data.map(|data| Record::from_rdata(query.name().clone(), 7, data)));
                }
                Err(code) => message.metadata.response_code = code,
            }
            socket.send_to(&message.to_vec().unwrap(), from).await.unwrap();
        }
    });
    address
}

fn sources(server: SocketAddr, search: &[&str], hosts: &str) -> Sources {
    let mut known = NameServerConfig::udp_and_tcp(server.ip());
    known.connections.iter_mut().for_each(|connection| connection.port = server.port());
    let search = search.iter().map(|domain| Name::from_utf8(domain).unwrap()).collect();
    let dns = Dns::new(ResolverConfig::from_parts(None, search, vec![known]), ResolverOpts::default());
    let mut read = Hosts::default();
    read.read_hosts_conf(hosts.as_bytes()).unwrap();
    Sources { hosts: read, dns: dns.map_err(|error| error.to_string()) }
}

fn told(found: Result<Answer, Why>) -> String {
    match found {
        Ok(Answer { v4, v6, by, .. }) => {
            let half = |half: Half| half.map_or_else(|_| "failed".to_owned(), |addresses| format!("{addresses:?}"));
            format!("{} {} by {by}", half(v4), half(v6))
        }
        Err(Why::Told(_)) => "nothing".to_owned(),
        Err(Why::Failed(_)) => "failed".to_owned(),
    }
}

#[test]
fn a_line_of_the_hosts_file_goes_before_dns_and_says_all() {
    on_a_core(async {
        let server = dns(Zone::from([
            (("app.corp.test.", A), Ok(&["10.9.9.9"][..])),
            (("app.", AAAA), Ok(&["fd00::9"][..])),
            (("app.corp.test.", AAAA), Ok(&["fd00::9"][..])),
        ]))
        .await;
        let hosts = "10.0.0.5 app\nfd00::1 six # ten\n10.0.0.7 both\nfd00::7 Both\n";
        let sources = sources(server, &["corp.test"], hosts);
        assert_eq!(told(sources.ask("app", None).await), "[10.0.0.5] [] by /etc/hosts");
        assert_eq!(told(sources.ask("six", None).await), "[] [fd00::1] by /etc/hosts");
        assert_eq!(told(sources.ask("both", None).await), "[10.0.0.7] [fd00::7] by /etc/hosts");
        assert_eq!(told(sources.ask("app.corp.test", None).await), "[10.9.9.9] [fd00::9] by app.corp.test.");
    });
}

#[test]
fn a_name_is_asked_for_with_the_search_domains_as_resolv_conf_has_it() {
    on_a_core(async {
        let sources = sources(SocketAddr::from(([127, 0, 0, 1], 9)), &["a.test", "b.test."], "");
        let names = |name: &str| {
            let names = sources.dns.as_ref().ok().unwrap().whole_names(Name::from_utf8(name).unwrap());
            names.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(names("app"), "app.a.test. app.b.test. app.");
        assert_eq!(names("app.ns"), "app.ns. app.ns.a.test. app.ns.b.test.");
        assert_eq!((names("app.ns."), names("localhost")), ("app.ns.".to_owned(), "localhost.".to_owned()));
    });
}

#[test]
fn the_families_are_asked_for_apart_under_one_name() {
    on_a_core(async {
        let server = dns(Zone::from([
            (("four.a.test.", A), Ok(&["10.0.0.2", "10.0.0.1", "10.0.0.2"][..])),
            (("four.a.test.", AAAA), Ok(&[][..])),
            // Another machine of that name.
            (("four.b.test.", AAAA), Ok(&["fd00::9"][..])),
            (("half.a.test.", A), Err(ResponseCode::ServFail)),
            (("half.a.test.", AAAA), Ok(&["fd00::1"][..])),
            (("far.b.test.", AAAA), Ok(&["fd00::2"][..])),
        ]))
        .await;
        let sources = sources(server, &["a.test", "b.test"], "");
        assert_eq!(told(sources.ask("four", None).await), "[10.0.0.1, 10.0.0.2] [] by four.a.test.");
        assert_eq!(sources.ask("four", None).await.unwrap().holds, Duration::from_secs(7));
        assert_eq!(told(sources.ask("half", None).await), "failed [fd00::1] by half.a.test.");
        assert_eq!(told(sources.ask("far", None).await), "[] [fd00::2] by far.b.test.");
        assert_eq!(told(sources.ask("none", None).await), "nothing");
    });
}

#[test]
fn a_domain_that_answers_to_everything_gets_nothing_because_the_one_before_it_failed() {
    on_a_core(async {
        let server = dns(Zone::from([
            (("app.a.test.", A), Err(ResponseCode::ServFail)),
            (("app.a.test.", AAAA), Err(ResponseCode::ServFail)),
            (("app.b.test.", A), Ok(&["10.9.9.9"][..])),
        ]))
        .await;
        let sources = sources(server, &["a.test", "b.test"], "");
        for (last, expected) in [
            (None, "failed"),
            (Some("app.a.test."), "failed"),
            (Some(HOSTS), "failed"),
            // Who was found behind a failure is still found there.
            (Some("app.b.test."), "[10.9.9.9] [] by app.b.test."),
            (Some(SYSTEM), "[10.9.9.9] [] by app.b.test."),
        ] {
            assert_eq!(told(sources.ask("app", last).await), expected, "{last:?}");
        }
    });
}
