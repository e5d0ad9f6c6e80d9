// Pages without script or style, so that a test client which only knows HTTP and forms gets through them.

export function escape_html(text) {
  return String(text).replace(/[&<>"']/g, (c) => `&#${c.charCodeAt(0)};`);
}

function page(title, body) {
  return `<!DOCTYPE html>
<html lang="en">
<head><meta charset="utf-8"><title>${title}</title></head>
<body>
<h1>${title}</h1>
${body}
</body>
</html>
`;
}

/**
 * What a test client does with it: POST `login` (the account's sub) and `password`, urlencoded, to the first form's action.
 * A right password answers 303, a wrong one 401 and this page again with `role="alert"`. The second form is the user
 * giving up: the relying party gets `error=access_denied`.
 */
export function login_page(uid, login, problem) {
  return page('Test provider: sign in', `${problem ? `<p role="alert">${escape_html(problem)}</p>` : ''}
<form method="post" action="/interaction/${uid}/login">
<p><label>Login <input name="login" value="${escape_html(login ?? '')}" autocomplete="username" required></label></p>
<p><label>Password <input name="password" type="password" autocomplete="current-password" required></label></p>
<p><button type="submit">Sign in</button></p>
</form>
<form method="post" action="/interaction/${uid}/abort">
<p><button type="submit">Cancel</button></p>
</form>`);
}

/**
 * RP-initiated logout asks before it ends the session. What a test client does with the page: POST every hidden input of
 * its form (`xsrf`, a value kept in the provider's session, and `logout=yes`), urlencoded and with the provider's cookies, to the
 * form's action (`/session/end/confirm`); the answer is 303 to the post_logout_redirect_uri with `state`. Leaving `logout` out
 * keeps the provider's session and ends only what the asking client had. A browser without a session here gets
 * oidc-provider's own page with the same two inputs, which a script submits: the same POST serves it.
 */
export function logout_page(form) {
  return page('Test provider: sign out', form.replace('</form>', '<input type="hidden" name="logout" value="yes"/><p><button type="submit">Sign out</button></p></form>'));
}

export function logged_out_page() {
  return page('Test provider: signed out', '<p>You are signed out.</p>');
}

export function error_page(out) {
  return page('Test provider: error', Object.entries(out).map(([name, value]) => `<p>${escape_html(name)}: ${escape_html(value)}</p>`).join('\n'));
}
