oauth2-proxy --provider=oidc --reverse-proxy
