//! Apps as they come from PyPI behind a prefix: supervisor, which believes it lives at `/` and wants a password, and Django, whose admin has
//! links, cookies and forms. And what stands in docs/headers.md, run.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "test code: it fails loudly")]

use serde_json::json;

use crate::harness::browser::Browser;
use crate::harness::process::{Launch, run};
use crate::harness::scene::{PUBLIC, Scene};
use crate::harness::temp::TempDir;
use crate::harness::wait::{PATIENCE, free_port};

/// Its pages have relative links; its redirects name the host that was asked for, and its own root.
#[tokio::test(flavor = "multi_thread")]
async fn supervisor_works_below_a_prefix_with_a_password_that_nobody_types() {
    let (dir, port) = (TempDir::new("supervisor"), free_port());
    let password = dir.write_secret("password", "s3cret:%\n");
    let config = format!(
        "[supervisord]\nlogfile = {0}/log\npidfile = {0}/pid\nnodaemon = true\n\
         [inet_http_server]\nport = 127.0.0.1:{port}\nusername = ops\npassword = s3cret:%%\n\
         [rpcinterface:supervisor]\nsupervisor.rpcinterface_factory = supervisor.rpcinterface:make_main_rpcinterface\n\
         [program:sleeper]\ncommand = sleep 1000\nautostart = false\nstartsecs = 0\nstdout_logfile = {0}/sleeper.log\n",
        dir.path().display()
    );
    let file = dir.write("supervisord.conf", config);
    let app = Launch::new("supervisord").arg("-c").arg(&file).goodbye("TERM", PATIENCE).start();
    app.wait_for_line(|line| line.contains("supervisord started"), PATIENCE).await;
    let route = |path: &str, keys: &str| {
        format!("[[route]]\npath = \"{path}\"\nupstream = \"http://127.0.0.1:{port}\"\nallow = \"any-authenticated\"\n{keys}\n")
    };
    let basic = format!("headers = {{ Authorization = \"{{basic:ops:{}}}\" }}", password.display());
    let tables = [
        route("/ops/", &format!("strip_prefix = true\n{basic}")),
        route("/named/", &format!("strip_prefix = true\nupstream_host = \"supervisor.internal\"\n{basic}")),
        route("/locked/", "strip_prefix = true"),
        route("/plain/", &basic),
    ];
    let scene = Scene::start("", &tables.concat());
    let mut browser = scene.sign_in().await;
    assert_eq!(browser.get(&scene.url("/locked/")).await.status, 401, "without the password it lets nobody in");
    assert_eq!(browser.get(&scene.url("/plain/")).await.status, 404, "it knows nothing of a prefix");

    for prefix in ["/ops", "/named"] {
        let page = browser.get(&scene.url(prefix)).await;
        let page = browser.follow(&page).await;
        assert_eq!((page.status.as_u16(), page.url.path()), (200, format!("{prefix}/").as_str()), "{}", page.text());
        assert!(page.title().contains("Supervisor") && page.text().contains("sleeper"), "{}", page.text());
        for (action, state) in [("Start", "running"), ("Stop", "stopped")] {
            let page = browser.get(&scene.url(&format!("{prefix}/"))).await;
            let page = browser.click(&page, &page.link(action)).await;
            let next = page.next().unwrap_or_else(|| panic!("no redirect: {}", page.summary()));
            assert!(next.as_str().starts_with(&scene.url(&format!("{prefix}/"))), "{next}");
            let page = browser.follow_all(page).await;
            assert_eq!((page.status.as_u16(), page.url.path().starts_with(prefix)), (200, true), "{}", page.url);
            assert!(page.text().contains(&format!(">{state}<")), "{prefix} {action}: {}", page.text());
        }
        let style = browser.get(&scene.url(&format!("{prefix}/stylesheets/supervisor.css"))).await;
        assert_eq!((style.status.as_u16(), style.header("content-type")), (200, Some("text/css")));
    }
}

/// A project with the admin alone: who comes is told by our header, and where it is mounted by `X-Forwarded-Prefix` if `sys.argv[2]` says so.
const PROJECT: &str = r"
import os, sys
from wsgiref.simple_server import make_server, WSGIRequestHandler
import django
from django.conf import settings
settings.configure(
    SECRET_KEY='x' * 50, ROOT_URLCONF='__main__', ALLOWED_HOSTS=['*'], USE_TZ=True, DEFAULT_AUTO_FIELD='django.db.models.AutoField',
    DATABASES={'default': {'ENGINE': 'django.db.backends.sqlite3', 'NAME': os.path.join(sys.argv[1], 'db.sqlite3')}},
    INSTALLED_APPS=['django.contrib.' + app for app in ('admin', 'auth', 'contenttypes', 'sessions', 'messages')],
    MIDDLEWARE=['django.contrib.sessions.middleware.SessionMiddleware', 'django.middleware.common.CommonMiddleware',
        'django.middleware.csrf.CsrfViewMiddleware', 'django.contrib.auth.middleware.AuthenticationMiddleware', '__main__.Known',
        'django.contrib.messages.middleware.MessageMiddleware'],
    AUTHENTICATION_BACKENDS=['django.contrib.auth.backends.RemoteUserBackend'],
    PASSWORD_HASHERS=['django.contrib.auth.hashers.MD5PasswordHasher'],
    TEMPLATES=[{'BACKEND': 'django.template.backends.django.DjangoTemplates', 'APP_DIRS': True, 'OPTIONS': {'context_processors': [
        'django.template.context_processors.request', 'django.contrib.auth.context_processors.auth',
        'django.contrib.messages.context_processors.messages']}}],
)
django.setup()
from django.contrib import admin
from django.core.management import call_command
from django.core.wsgi import get_wsgi_application
from django.urls import path
urlpatterns = [path('admin/', admin.site.urls)]
call_command('migrate', verbosity=0)
from django.contrib.auth.middleware import RemoteUserMiddleware
from django.contrib.auth.models import User

class Known(RemoteUserMiddleware):
    header = 'HTTP_X_FORWARDED_USER'

User.objects.create_superuser('alice')
application = get_wsgi_application()

def mounted(environ, start):
    if sys.argv[2] == 'reads-prefix':
        environ['SCRIPT_NAME'] = environ.get('HTTP_X_FORWARDED_PREFIX', '')
    return application(environ, start)

class Quiet(WSGIRequestHandler):
    def log_message(self, *more):
        pass

server = make_server('127.0.0.1', 0, mounted, handler_class=Quiet)
print('port', server.server_port, flush=True)
server.serve_forever()
";

async fn django(dir: &TempDir, kind: &str) -> (crate::harness::process::Process, String) {
    let script = dir.write("app.py", PROJECT);
    let app = Launch::new("python-with-apps").arg(&script).arg(dir.path()).arg(kind).start();
    let said = app.wait_for_line(|line| line.starts_with("port "), PATIENCE).await;
    let url = format!("http://127.0.0.1:{}", said.trim_start_matches("port "));
    (app, url)
}

#[tokio::test(flavor = "multi_thread")]
async fn django_works_below_a_prefix_with_its_cookies_links_and_forms() {
    let dir = TempDir::new("django");
    let (_app, url) = django(&dir, "reads-prefix").await;
    let scene = Scene::start(
        "",
        &format!("[[route]]\npath = \"/shop/\"\nupstream = \"{url}\"\nallow = \"any-authenticated\"\nstrip_prefix = true\n{PUBLIC}"),
    );
    let mut browser = scene.sign_in().await;
    let page = browser.get(&scene.url("/shop/admin")).await;
    assert_eq!((page.status.as_u16(), page.next().unwrap().path()), (301, "/shop/admin/"), "the app's own redirect");
    let page = browser.follow_all(page).await;
    assert_eq!(page.status, 200, "{}", page.text());
    assert!(page.visible_text().contains("alice"), "{}", page.visible_text());

    // Links, a form that needs the cookie, a redirect after it.
    let page = browser.click(&page, &page.link("Groups")).await;
    assert_eq!((page.status.as_u16(), page.url.path()), (200, "/shop/admin/auth/group/"));
    let page = browser.get(&scene.url("/shop/admin/auth/group/add/")).await;
    let form = page.forms().into_iter().find(|form| form.field("csrfmiddlewaretoken").is_some() && form.field("name").is_some()).unwrap();
    let page = browser.submit(&page, &form, &[("name", "buyers")]).await;
    assert_eq!((page.status.as_u16(), page.next().unwrap().path()), (302, "/shop/admin/auth/group/"), "{}", page.text());
    let page = browser.follow(&page).await;
    assert!(page.visible_text().contains("buyers"), "{}", page.visible_text());

    // Its cookies are its own: no other app of this host sees them.
    let cookies = ["csrftoken", "sessionid"].map(|name| browser.cookie(name).unwrap_or_else(|| panic!("no {name}")));
    assert!(cookies.iter().all(|cookie| cookie.path == "/shop"), "{cookies:?}");
    assert_eq!(browser.get(&scene.url("/elsewhere/x")).await.status, 200);
    let seen = scene.upstream.last();
    assert_eq!((seen.header("cookie"), seen.header("x-forwarded-prefix")), (None, None));
}

#[tokio::test(flavor = "multi_thread")]
async fn redirects_and_cookies_work_for_an_app_that_knows_no_prefix() {
    let dir = TempDir::new("django");
    let (_app, url) = django(&dir, "knows-nothing").await;
    let route = |path: &str, keys: &str| {
        format!("[[route]]\npath = \"{path}\"\nupstream = \"{url}\"\nallow = \"any-authenticated\"\nidentity_headers = []\n{keys}\n")
    };
    let scene = Scene::start("", &[route("/shop/", "strip_prefix = true"), route("/api/", "rewrite = \"/admin\"")].concat());
    let mut browser: Browser = scene.sign_in().await;
    for (path, login) in [("/shop/admin/auth/group/", "/shop/admin/login/"), ("/api/auth/group/", "/api/login/")] {
        let page = browser.get(&scene.url(path)).await;
        assert_eq!((page.status.as_u16(), page.next().unwrap().path()), (302, login), "nobody is known without the header");
        let page = browser.follow(&page).await;
        assert_eq!(page.status, 200, "{}", page.text());
        assert!(page.visible_text().contains("Django administration"), "{}", page.visible_text());
        // What is set for all of the app is for all that is seen of it; what is only a part of the app keeps its own word.
        let lines = page.answer.set_cookies().join("\n");
        assert!(
            lines.contains("csrftoken=") && lines.contains(if path.starts_with("/shop") { "Path=/shop;" } else { "Path=/;" }),
            "{lines}"
        );
    }
}

/// The snippets of docs/headers.md, given what an upstream really got.
#[tokio::test(flavor = "multi_thread")]
async fn an_app_reads_our_headers_as_the_docs_say() {
    let docs = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/headers.md")).unwrap();
    let snippet = |language: &str| {
        let (_, rest) = docs.split_once(&format!("```{language}\n")).unwrap_or_else(|| panic!("no {language} in docs/headers.md"));
        rest.split_once("```").unwrap().0.to_owned()
    };
    let scene = Scene::start("", "[[route]]\nupstream = \"@UPSTREAM@\"\nallow = \"any-authenticated\"\naccept = [\"bearer\"]\n");
    let (user, groups) = ("Zoë, 100% + \u{1F600} \"x\"", json!(["a,b", "c d", "ü%2C", "+", " e "]));
    let bearer = format!("Bearer {}", scene.token(json!({ "sub": user, "groups": groups })));
    assert_eq!(scene.get("/x", &[("authorization", &bearer)]).await.status, 200);
    let seen = scene.upstream.last();
    let (told_user, told_groups) = (seen.header("x-forwarded-user").unwrap(), seen.header("x-forwarded-groups").unwrap());
    assert!(told_user.is_ascii() && told_user != user);
    let expected = json!([user, groups, []]);
    let python = format!("{}\nimport json, sys\nprint(json.dumps([value(sys.argv[1]), items(sys.argv[2]), items('')]))", snippet("python"));
    let javascript =
        format!("{}\nconsole.log(JSON.stringify([value(process.argv[1]), items(process.argv[2]), items('')]))", snippet("javascript"));
    for (program, flag, code) in [("python3", "-c", &python), ("node", "-e", &javascript)] {
        let printed = run(program, &[flag, code, &told_user, &told_groups]);
        assert_eq!(serde_json::from_str::<serde_json::Value>(printed.trim()).unwrap(), expected, "{program}: {printed}");
    }
}
