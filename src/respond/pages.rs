//! Pages for people: one layout, no script, one style sheet that the policy names by its hash.

use bytes::Bytes;
use http::StatusCode;
use http::header::{CONTENT_SECURITY_POLICY, HeaderValue, X_FRAME_OPTIONS};
use minijinja::value::Serde;
use minijinja::{AutoEscape, Environment, Value, context};
use serde::Serialize;

use super::{Answer, Words, body};
use crate::reason::Reason;
use crate::route::DeniedText;
use crate::secret::{encode_standard, sha256};

const STYLE: &str = include_str!("pages/style.css");
/// What the page does that a SPA opens to sign in again.
const CLOSE: &str = "window.close()";
const HTML: &str = "text/html; charset=utf-8";

/// How pages look.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Look {
    /// The site's name.
    pub title: String,
    /// A `data:` URI.
    pub logo: Option<String>,
    /// `#rrggbb`.
    pub accent: String,
    /// Plain text for whoever signs in or is stopped.
    pub notice: Option<String>,
    /// Where those find help: an `http` or `https` URL.
    pub help_url: Option<String>,
}

/// A way on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Action {
    /// What the button says.
    pub label: String,
    /// Where it leads: `http`, `https` or a path, never anything else.
    pub href: String,
}

/// The chooser's content.
#[derive(Clone, Debug, Serialize)]
pub struct Chooser {
    /// The app's host.
    pub host: String,
    /// One button each.
    pub providers: Vec<Choice>,
}

/// A provider on the chooser.
#[derive(Clone, Debug, Serialize)]
pub struct Choice {
    /// Its name for people.
    pub name: String,
    /// Begins a login there.
    pub href: String,
}

/// The form of local accounts.
#[derive(Clone, Debug, Serialize)]
pub struct LocalForm {
    /// The form's target.
    pub action: String,
    /// Of the attempt.
    pub state: String,
    /// The app's host.
    pub host: String,
    /// Whose password was right: the form asks for a code.
    pub proven: Option<String>,
    /// Who is expected.
    pub hint: Option<String>,
    /// What was wrong with the last attempt.
    pub failure: Option<&'static str>,
    /// How many failed in this flow.
    pub failures: u8,
    /// Begins again with another account.
    pub another: String,
}

/// The refusal of somebody who is signed in.
#[derive(Clone, Debug, Serialize)]
pub struct DeniedPage {
    /// Their name.
    pub user: Option<String>,
    /// Signs them out.
    pub sign_out_action: Option<String>,
    /// Where to go then.
    pub rd: Option<String>,
    /// The page they wanted.
    pub home: Option<String>,
    /// What the route has to say to them.
    pub told: Option<DeniedText>,
}

/// The page after signing out.
#[derive(Clone, Debug, Serialize)]
pub struct SignedOut {
    /// Whether the provider's session has ended too.
    pub provider_too: bool,
    /// Begins again.
    pub sign_in: Option<String>,
    /// What is not certain.
    pub warning: Option<String>,
}

/// A GET from another site asks first.
#[derive(Clone, Debug, Serialize)]
pub struct ConfirmSignOut {
    /// Who is signed in.
    pub user: Option<String>,
    /// Whether all of the person's sessions are meant.
    pub everywhere: bool,
    /// Comes back with the form and says that it was ours.
    pub confirm: Option<String>,
    /// The form's target.
    pub action: String,
    /// Where to go then.
    pub rd: Option<String>,
    /// Back to the app.
    pub cancel: String,
}

/// Offers to send a form that was kept.
#[derive(Clone, Debug, Serialize)]
pub struct KeptPage {
    /// Where it goes.
    pub action: String,
    /// The same for people: host and path.
    pub place: String,
    /// Name of the one field that the button sends.
    pub field: &'static str,
    /// Its value.
    pub handle: String,
    /// The page to go on to without sending it.
    pub instead: String,
}

/// Who am I.
#[derive(Clone, Debug, Serialize)]
#[expect(missing_docs, reason = "each is shown under its own name")]
pub struct SessionPage {
    pub user: String,
    pub email: Option<String>,
    pub email_verified: bool,
    pub preferred_username: Option<String>,
    pub groups: Vec<String>,
    pub issuer: String,
    pub sub: String,
    pub signed_in_at: String,
    pub idle_until: String,
    pub ends_at: String,
    pub sign_out_action: String,
    pub rd: Option<String>,
    pub home: String,
    pub end_action: String,
    pub confirm: String,
    pub sessions: Vec<ShownSession>,
    pub more_sessions: usize,
}

/// One of a person's sessions.
#[derive(Clone, Debug, Serialize)]
pub struct ShownSession {
    /// What ends it, in the form.
    pub id: String,
    /// `Firefox on Linux`.
    pub browser: String,
    /// The address it began from.
    pub address: String,
    /// When it began.
    pub signed_in_at: String,
    /// When it was last used.
    pub last_used: String,
    /// Whether the page is shown in it.
    pub here: bool,
}

/// All templates, ready to render.
pub struct Pages {
    templates: Environment<'static>,
    look: Look,
    style: String,
    /// Without `form-action`.
    policy: String,
}

impl Pages {
    /// Compiles the templates for a look.
    ///
    /// # Errors
    /// Only for templates that do not compile: a defect that the tests find.
    pub fn new(look: &Look) -> Result<Self, minijinja::Error> {
        let mut templates = Environment::new();
        templates.set_auto_escape_callback(|_| AutoEscape::Html);
        let all = [
            ("layout.html", include_str!("pages/layout.html")),
            ("notice.html", include_str!("pages/notice.html")),
            ("told.html", include_str!("pages/told.html")),
            ("chooser.html", include_str!("pages/chooser.html")),
            ("local_password.html", include_str!("pages/local_password.html")),
            ("local_code.html", include_str!("pages/local_code.html")),
            ("denied.html", include_str!("pages/denied.html")),
            ("error.html", include_str!("pages/error.html")),
            ("signed_out.html", include_str!("pages/signed_out.html")),
            ("confirm_sign_out.html", include_str!("pages/confirm_sign_out.html")),
            ("frontchannel.html", include_str!("pages/frontchannel.html")),
            ("session.html", include_str!("pages/session.html")),
            ("kept.html", include_str!("pages/kept.html")),
            ("done.html", include_str!("pages/done.html")),
            ("redirect.html", include_str!("pages/redirect.html")),
            ("demo_login.html", include_str!("pages/demo_login.html")),
            ("demo_app.html", include_str!("pages/demo_app.html")),
        ];
        for (name, source) in all {
            templates.add_template(name, source)?;
        }
        let style = STYLE.replace("__ACCENT__", &look.accent).replace("__ON_ACCENT__", readable_on(&look.accent));
        let hash = encode_standard(&sha256(style.as_bytes()));
        let policy = format!("default-src 'none'; style-src 'sha256-{hash}'; img-src data:; base-uri 'none'; frame-ancestors 'none'");
        Ok(Self { templates, look: look.clone(), style, policy })
    }

    /// Renders one of our pages. `form_origins` are where a form's answer may lead beside ourselves; Chromium follows the whole chain of
    /// redirects when it applies `form-action`.
    #[must_use]
    pub fn render(&self, name: &str, request_id: &str, content: Value, form_origins: &[String]) -> Answer {
        let Look { title, logo, notice, help_url, .. } = &self.look;
        let frame = context! { title, logo, notice, help_url, style => &self.style, request_id, lang => "en", ..content };
        let page = self.templates.get_template(name).and_then(|template| template.render(frame));
        let policy =
            format!("{}; form-action 'self'{}", self.policy, form_origins.iter().map(|origin| format!(" {origin}")).collect::<String>());
        match page {
            Ok(page) => body(HTML, &policy, page),
            Err(error) => {
                // A page that does not render is a defect; the status of the answer still tells what happened.
                tracing::error!(page = name, %error, "a page could not be rendered");
                body("text/plain; charset=utf-8", &policy, Bytes::from_static(b"The page could not be shown.\n"))
            }
        }
    }

    #[expect(clippy::too_many_arguments, reason = "each is a line of the page")]
    pub(super) fn error(
        &self,
        request_id: &str,
        status: StatusCode,
        reason: Reason,
        words: &Words,
        retry_after: Option<u64>,
        actions: &[Action],
        told: Option<&DeniedText>,
    ) -> Answer {
        let content = context! {
            status => status.as_u16(), headline => words.headline, text => words.text, reason => reason.as_str(),
            actions => Serde(actions), retry_after, told => told.map(Serde),
            // What somebody wrote is one step back in this tab: the way on must not lead away from it.
            new_tab => reason == Reason::FormNotKept,
        };
        self.render("error.html", request_id, content, &[])
    }

    pub(super) fn redirect(&self, href: &str) -> Answer {
        self.render("redirect.html", "", context! { href }, &[])
    }

    /// The chooser.
    #[must_use]
    pub fn chooser(&self, request_id: &str, page: &Chooser) -> Answer {
        self.render("chooser.html", request_id, Value::from(Serde(page)), &[])
    }

    /// The form of local accounts: for a name and a password, or for a code.
    #[must_use]
    pub fn local_form(&self, request_id: &str, page: &LocalForm, form_origins: &[String]) -> Answer {
        let name = if page.proven.is_some() { "local_code.html" } else { "local_password.html" };
        self.render(name, request_id, Value::from(Serde(page)), form_origins)
    }

    /// 403 for somebody who is signed in.
    #[must_use]
    pub fn denied(&self, request_id: &str, reason: Reason, words: &Words, page: &DeniedPage, form_origins: &[String]) -> Answer {
        let content = context! { reason => reason.as_str(), text => words.text, ..Value::from(Serde(page)) };
        let mut answer = self.render("denied.html", request_id, content, form_origins);
        *answer.status_mut() = StatusCode::FORBIDDEN;
        answer
    }

    /// After signing out.
    #[must_use]
    pub fn signed_out(&self, request_id: &str, page: &SignedOut) -> Answer {
        self.render("signed_out.html", request_id, Value::from(Serde(page)), &[])
    }

    /// In a frame on the provider's page (OpenID Connect Front-Channel Logout 1.0 §2): these origins may frame it, and nobody else.
    #[must_use]
    pub fn frontchannel_signed_out(&self, request_id: &str, framed_by: &[String]) -> Answer {
        let mut answer = self.render("frontchannel.html", request_id, context! {}, &[]);
        let ancestors = format!("frame-ancestors {}", if framed_by.is_empty() { "'none'".to_owned() } else { framed_by.join(" ") });
        let headers = answer.headers_mut();
        let policy = headers.get(CONTENT_SECURITY_POLICY).and_then(|policy| policy.to_str().ok());
        let policy = policy.map(|policy| policy.replace("frame-ancestors 'none'", &ancestors));
        if let Some(policy) = policy.and_then(|policy| HeaderValue::try_from(policy).ok()) {
            headers.insert(CONTENT_SECURITY_POLICY, policy);
            // It knows no origins; where it stands beside the policy, some browsers go by it.
            headers.remove(X_FRAME_OPTIONS);
            // A provider's page under COEP takes no frame that keeps to its own origin.
            headers.insert("cross-origin-resource-policy", HeaderValue::from_static("cross-origin"));
        }
        answer
    }

    /// Asks before signing out.
    #[must_use]
    pub fn confirm_sign_out(&self, request_id: &str, page: &ConfirmSignOut, form_origins: &[String]) -> Answer {
        self.render("confirm_sign_out.html", request_id, Value::from(Serde(page)), form_origins)
    }

    /// Offers to send a form that was kept.
    #[must_use]
    pub fn kept(&self, request_id: &str, page: &KeptPage) -> Answer {
        // The app may answer its form with a redirect to anywhere, and `form-action` would be held against that as well.
        self.render("kept.html", request_id, Value::from(Serde(page)), &["*".to_owned()])
    }

    /// Closes its window. The one page with a script, which its policy names by its hash.
    #[must_use]
    pub fn done(&self) -> Answer {
        let mut answer = self.render("done.html", "", context! { script => CLOSE }, &[]);
        let hash = encode_standard(&sha256(CLOSE.as_bytes()));
        let policy = format!("{}; form-action 'none'; script-src 'sha256-{hash}'", self.policy);
        if let Ok(policy) = HeaderValue::try_from(policy) {
            answer.headers_mut().insert(CONTENT_SECURITY_POLICY, policy);
        }
        answer
    }

    /// Who am I.
    #[must_use]
    pub fn session(&self, request_id: &str, page: &SessionPage, form_origins: &[String]) -> Answer {
        self.render("session.html", request_id, Value::from(Serde(page)), form_origins)
    }
}

impl From<(String, String)> for Choice {
    fn from((name, href): (String, String)) -> Self {
        Self { name, href }
    }
}

/// Black or white, whichever can be read better on a colour (WCAG 2, relative luminance).
fn readable_on(colour: &str) -> &'static str {
    let channel = |at: usize| {
        let value = colour.get(at..at + 2).and_then(|hex| u8::from_str_radix(hex, 16).ok()).unwrap_or_default();
        let value = f64::from(value) / 255.0;
        if value <= 0.04045 { value / 12.92 } else { ((value + 0.055) / 1.055).powf(2.4) }
    };
    let luminance = 0.2126 * channel(1) + 0.7152 * channel(3) + 0.0722 * channel(5);
    let on_white = 1.05 / (luminance + 0.05);
    let on_black = (luminance + 0.05) / 0.05;
    if on_black > on_white { "#000" } else { "#fff" }
}

#[cfg(test)]
mod tests;
