use super::*;

fn collected(name: &str, text: &str) -> Collected {
    collect(&[Input { name: name.to_owned(), text: text.to_owned() }]).unwrap()
}

#[test]
fn words_are_split_as_a_shell_splits_them() {
    let words = words::split("oauth2-proxy \\\n  --a='one two' --b=\"say \\\"x\\\" \\.js\" # not this\n--c=\\$x --d=''");
    assert_eq!(words, ["oauth2-proxy", "--a=one two", "--b=say \"x\" \\.js", "--c=$x", "--d="]);
}

#[test]
fn flags_are_read_in_each_spelling() {
    let found = collected(
        "start.sh",
        "exec oauth2-proxy -provider oidc --upstream http://a:1 --upstream=http://b:2,http://c:3/x/ --reverse-proxy -skip-auth-preflight=false",
    );
    assert_eq!(found.flags.text("provider").unwrap().1, "oidc");
    assert_eq!(found.flags.list("upstream"), ["http://a:1", "http://b:2", "http://c:3/x/"]);
    assert!(found.flags.switched("reverse-proxy", true).is_some() && found.flags.switched("skip-auth-preflight", false).is_some());
}

#[test]
fn variables_are_read_as_systemd_reads_them() {
    let found = collected(
        "env",
        "# secrets\nOAUTH2_PROXY_EMAIL_DOMAINS=\"a.test,b.test\"\nexport OAUTH2_PROXY_CLIENT_ID='x y'\nOAUTH2_PROXY_BANNER=a # b\nOTHER=1\n",
    );
    assert_eq!(found.variables.list("email-domain"), ["a.test", "b.test"]);
    assert_eq!(found.variables.text("client-id").unwrap().1, "x y");
    assert_eq!(found.variables.text("banner").unwrap().1, "a # b");
}

#[test]
fn a_value_that_stands_elsewhere_is_told_by_its_place() {
    let found = collected(
        "run.sh",
        "ISSUER=https://i.test\noauth2-proxy --oidc-issuer-url=$ISSUER --client-secret=${SECRET} --skip-auth-route='^/x$' --scope=${SCOPE:-openid}",
    );
    assert_eq!(found.flags.text("oidc-issuer-url").unwrap().1, "https://i.test");
    assert_eq!(found.flags.get("client-secret").unwrap().kept.as_deref(), Some("the variable SECRET"));
    assert_eq!(found.flags.list("skip-auth-route"), ["^/x$"]);
    assert_eq!(found.flags.text("scope").unwrap().1, "openid");
}

#[test]
fn a_broken_file_is_told_without_a_word_of_it() {
    let input = Input { name: "proxy.toml".to_owned(), text: "client_id = \"x\"\nclient_secret = hunter2\n".to_owned() };
    let error = collect(&[input]).err().unwrap();
    assert!(error.contains("proxy.toml") && error.contains("line 2") && !error.contains("hunter2"), "{error}");
    let input = Input { name: "alpha.yaml".to_owned(), text: "providers: [hunter2\n".to_owned() };
    let error = collect(&[input]).err().unwrap();
    assert!(error.contains("alpha.yaml") && !error.contains("hunter2"), "{error}");
}

#[test]
fn each_shape_is_told_by_what_it_holds() {
    for (name, text, wanted) in [
        ("x", "[Unit]\n[Service]\nExecStart=/bin/oauth2-proxy --x=1\n", Shape::Unit),
        ("x", "http_address = \":4180\"\n", Shape::Toml),
        ("oauth2-proxy.cfg", "## OAuth2 Proxy Config File\n\n# http_address = \"x\"\nupstreams = [\n\"http://a\"]\n", Shape::Toml),
        ("x", "OAUTH2_PROXY_PROVIDER=oidc\n", Shape::Variables),
        ("x", "providers:\n  - id: a\n", Shape::Yaml),
        ("x", "---\nkind: Pod\n", Shape::Yaml),
        ("x", "oauth2-proxy \\\n --provider=oidc\n", Shape::CommandLine),
        ("x.sh", "export OAUTH2_PROXY_CLIENT_ID=a\noauth2-proxy \\\n  --provider=oidc\n", Shape::CommandLine),
    ] {
        assert_eq!(shape(&Input { name: name.to_owned(), text: text.to_owned() }), wanted, "{text}");
    }
}
