"""Apache with mod_auth_openidc, and oauth2-proxy, as contenders."""

import os
import secrets
import shutil

from browser import id_token, sign_in
from stand import SECRET


class Apache:
    """`cache` is "shm" or "redis". /public/ is proxied without a question."""

    def __init__(self, stand, cache):
        self.stand, self.machine, self.cache = stand, stand.machine, cache
        self.name = f"apache-{cache}"
        self.group = None
        self._cookies = []
        self.origin = f"http://127.0.0.1:{self.port()}"
        stand.redirect("apache", f"{self.origin}/session/callback")

    def port(self, _listener="plain"):
        return self.machine.port(self.name)

    def groups(self):
        return [self.group]

    def stop(self):
        if self.group:
            self.machine.stop(self.group)
            self.group, self._cookies = None, []

    def cookies(self, _count=1):
        if not self._cookies:
            self._cookies = [sign_in(f"{self.origin}/session/whoami")]
        return self._cookies

    def start(self):
        if self.group:
            return
        modules = ["mpm_event", "authz_core", "authn_core", "authz_user", "proxy", "proxy_http", "auth_openidc"]
        folder = self.machine.dir / self.name
        folder.mkdir(exist_ok=True)
        app = f"http://127.0.0.1:{self.stand.upstream()}"
        cache = "OIDCCacheType shm"
        if self.cache == "redis":
            cache = f"OIDCCacheType redis\nOIDCRedisCacheServer 127.0.0.1:{self.stand.redis()}"
        user = "User www-data\nGroup www-data" if os.geteuid() == 0 else ""
        text = f"""ServerRoot {folder}
ServerName 127.0.0.1
Listen 127.0.0.1:{self.port()}
ListenBacklog 4096
PidFile {folder}/pid
DefaultRuntimeDir {folder}
Mutex file:{folder} default
ErrorLog {folder}/error.log
LogLevel error
{user}
""" + "\n".join(f"LoadModule {name}_module /usr/lib/apache2/modules/mod_{name}.so" for name in modules) + f"""
ServerLimit {self.machine.cores}
StartServers {self.machine.cores}
ThreadLimit 256
ThreadsPerChild 256
MinSpareThreads 1
MaxSpareThreads {256 * self.machine.cores}
MaxRequestWorkers {256 * self.machine.cores}
MaxConnectionsPerChild 0
KeepAlive On
MaxKeepAliveRequests 0
KeepAliveTimeout 600
ProxyPass / {app}/ keepalive=On
OIDCProviderMetadataURL {self.stand.issuer()}/.well-known/openid-configuration
OIDCClientID apache
OIDCClientSecret {SECRET}
OIDCProviderTokenEndpointAuth client_secret_basic
OIDCRedirectURI {self.origin}/session/callback
OIDCCryptoPassphrase {secrets.token_hex(16)}
OIDCPKCEMethod S256
OIDCScope "openid email profile"
OIDCSessionType server-cache
{cache}
<Location /session/>
    AuthType openid-connect
    Require valid-user
</Location>
"""
        if user:
            shutil.chown(folder, "www-data")  # its mutexes
        file = self.machine.write(f"{self.name}/apache.conf", text)
        command = ["apache2", "-d", folder, "-f", file, "-DFOREGROUND"]
        self.group = self.machine.start(self.name, command, self.name, contender=True)


class OAuth2Proxy:
    """`kind` is "cookie" or "redis", or "auth": then /oauth2/auth says who it is. Bearer tokens are taken too."""

    def __init__(self, stand, binary, kind):
        self.stand, self.machine, self.binary, self.kind = stand, stand.machine, binary, kind
        self.name = f"oauth2-proxy-{kind}"
        self.group = None
        self._cookies, self._token = [], None
        self.origin = f"http://127.0.0.1:{self.port()}"
        stand.redirect("oauth2-proxy", f"{self.origin}/oauth2/callback")

    def port(self, _listener="plain"):
        return self.machine.port(self.name)

    def groups(self):
        return [self.group]

    def stop(self):
        if self.group:
            self.machine.stop(self.group)
            self.group, self._cookies = None, []

    def cookies(self, _count=1):
        if not self._cookies:
            self._cookies = [sign_in(f"{self.origin}/session/whoami")]
        return self._cookies

    def token(self):
        """An ID token, which it takes for a bearer token."""
        if not self._token:
            self._token = id_token(self.stand.issuer(), "oauth2-proxy", SECRET, self.stand.redirects["oauth2-proxy"][0])
        return self._token

    def start(self):
        if self.group:
            return
        command = [
            self.binary, f"--http-address=127.0.0.1:{self.port()}", f"--upstream=http://127.0.0.1:{self.stand.upstream()}/",
            "--provider=oidc", f"--oidc-issuer-url={self.stand.issuer()}", "--client-id=oauth2-proxy", f"--client-secret={SECRET}",
            f"--redirect-url={self.origin}/oauth2/callback", f"--cookie-secret={secrets.token_hex(16)}", "--cookie-secure=false",
            "--email-domain=*", "--skip-provider-button=true", "--code-challenge-method=S256", "--scope=openid email profile",
            "--request-logging=false", "--auth-logging=false", "--standard-logging=false",
            "--skip-jwt-bearer-tokens=true",
        ]
        if self.kind == "auth":
            command.append("--set-xauthrequest=true")
        if self.kind == "redis":
            command += ["--session-store-type=redis", f"--redis-connection-url=redis://127.0.0.1:{self.stand.redis()}"]
        self.group = self.machine.start(self.name, command, self.name, contender=True)
