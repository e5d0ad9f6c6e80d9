use super::super::tests::{load_text, problems};
use super::*;

const TOP: &str = "public_url = \"https://app.test\"\n[[route]]\nupstream = \"http://127.0.0.1:1\"\naccess = \"public\"\n";

fn read_of(keys: &str) -> Option<Tracing> {
    let told = |problems: Vec<super::super::Problem>| problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n");
    load_text("config.toml", &format!("{TOP}{keys}"), &[]).unwrap_or_else(|problems| panic!("{}", told(problems))).tracing
}

#[test]
fn traces_are_off_unless_a_collector_is_named() {
    assert!(read_of("").is_none());
    assert!(read_of("[tracing]\n").is_none());
    let read = read_of("[tracing]\nendpoint = \"http://127.0.0.1:4318/v1/traces\"").unwrap();
    assert_eq!((read.sample, read.service_name.as_str(), read.headers.is_none()), (0.1, "doorward", true));
    for (written, sample) in [("0", 0.0), ("1", 1.0), ("0.25", 0.25)] {
        let read = read_of(&format!("[tracing]\nendpoint = \"https://c.test/v1/traces\"\nsample = {written}")).unwrap();
        assert_eq!(read.sample, sample);
    }
}

#[test]
fn what_a_collector_wants_to_see_is_read_and_never_told() {
    let read = read_of("[tracing]\nendpoint = \"https://c.test/t\"\nheaders = { Authorization = \"Bearer x\", X-Org = \"a: b\" }").unwrap();
    let headers = collector_headers(&read.headers.unwrap().get()).unwrap();
    let told: Vec<_> = headers.iter().map(|(name, value)| (name.as_str(), value.to_str().unwrap(), value.is_sensitive())).collect();
    assert_eq!(told, [("authorization", "Bearer x", true), ("x-org", "a: b", true)]);
    for (text, words) in [
        ("", "holds no header"),
        ("# only a remark\n\n", "holds no header"),
        ("A: 1\nhunter2", "line 2: expected a name"),
        ("Content-Type: hunter2", "line 1: content-type says how"),
        ("A b: hunter2", "the name is no header's"),
        ("A:  ", "the value is empty"),
        ("A: hunter2\u{7f}", "the value fits in no header"),
    ] {
        let wrong = collector_headers(&Secret::new(text)).unwrap_err();
        assert!(wrong.contains(words) && !wrong.contains("hunter2"), "{text:?}: {wrong}");
    }
}

#[test]
fn what_is_wrong_is_told_with_what_to_write() {
    let endpoint = "endpoint = \"https://c.test/v1/traces\"\n";
    for (keys, key, words) in [
        ("sample = 0.5", "tracing.endpoint", "is missing beside sample"),
        ("headers_file = \"/nowhere\"", "tracing.endpoint", "is missing beside headers_file"),
        ("endpoint = \"c.test:4318\"", "tracing.endpoint", "http or https"),
        ("endpoint = \"grpc://c.test:4317/v1/traces\"", "tracing.endpoint", "gRPC is not spoken"),
        ("endpoint = \"https://c.test\"", "tracing.endpoint", "/v1/traces"),
        ("endpoint = \"https://u:hunter2@c.test/v1/traces\"", "tracing.endpoint", "headers_file"),
        ("endpoint = \"http://c.test/v1/traces\"\nheaders = { A = \"hunter2\" }", "tracing.endpoint", "use https"),
        ("endpoint = \"http://127.0.0.1:1/v1/traces\"\ntls = { server_name = \"c\" }", "tracing.tls", "does nothing"),
        (&format!("{endpoint}sample = 1.5"), "tracing.sample", "from 0 to 1"),
        (&format!("{endpoint}sample = -1"), "tracing.sample", "from 0 to 1"),
        (&format!("{endpoint}sample = \"0.5\""), "tracing.sample", "from 0 to 1"),
        (&format!("{endpoint}headers = {{ Host = \"hunter2\" }}"), "tracing.headers", "the gateway's own"),
        (&format!("{endpoint}headers = {{ A = \"x\\ny: hunter2\" }}"), "tracing.headers", "line break"),
        (&format!("{endpoint}headers = {{ A = \"x\" }}\nheaders_file = \"/nowhere\""), "tracing.headers", "one of them"),
        (&format!("{endpoint}headers_file = \"/nowhere\""), "tracing.headers_file", "cannot be read"),
        (&format!("{endpoint}protocol = \"grpc\""), "tracing.protocol", "is no key"),
    ] {
        let told = problems(&format!("{TOP}[tracing]\n{keys}\n"));
        let found = told.iter().any(|(path, message)| path == key && message.contains(words));
        assert!(found && !format!("{told:?}").contains("hunter2"), "{keys}: {told:?}");
    }
}

#[test]
fn the_log_names_people_as_it_is_told_to() {
    use super::super::LogUser;
    let read = |keys: &str| load_text("config.toml", &format!("{TOP}{keys}"), &[]).ok().map(|config| config.gateway.log.user);
    assert_eq!(read(""), Some(LogUser::Name));
    for (word, user) in [("name", LogUser::Name), ("sub", LogUser::Sub), ("none", LogUser::Nothing)] {
        assert_eq!(read(&format!("[log]\nuser = \"{word}\"")), Some(user));
    }
    let told = problems(&format!("{TOP}[log]\nuser = \"email\"\n"));
    assert!(told.iter().any(|(path, message)| path == "log.user" && message.contains("\"name\" or \"sub\" or \"none\"")), "{told:?}");
}
