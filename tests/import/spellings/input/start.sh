#!/bin/sh
# Starts the gateway.
ISSUER=https://login.example.com
export OAUTH2_PROXY_COOKIE_SECRET="OQINaROshtE9TcZkNAm-5Zs2Pv3xaWytBmc5W7sPX7w="
/usr/local/bin/oauth2-proxy -provider oidc --oidc-issuer-url "$ISSUER" \
    --client-id 'the app' --client-secret "${CLIENT_SECRET}" \
    -email-domain=example.com --email-domain example.org,example.net \
    --redirect-url=https://app.example.com/oauth2/callback --upstream "http://127.0.0.1:8080/" \
    --skip-provider-button --pass-user-headers=true --provider-display-name="The \"Example\" Login"
