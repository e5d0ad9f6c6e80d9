#!/bin/sh
exec oauth2-proxy \
  --provider=oidc \
  --oidc-issuer-url=https://login.example.com \
  --client-id=app --client-secret=s3cret-of-the-app --cookie-secret=OQINaROshtE9TcZkNAm-5Zs2Pv3xaWytBmc5W7sPX7w= \
  --redirect-url=https://app.example.com/oauth2/callback \
  --email-domain=example.com \
  --upstream=http://127.0.0.1:8080/ --skip-oidc-discovery --login-url=https://login.example.com/authorize --redeem-url=https://login.internal/token \
  --oidc-jwks-url=https://login.internal/jwks --profile-url=https://login.internal/userinfo --provider-ca-file=@FILES@/ca.pem --provider-ca-file=/etc/second.pem \
  --ssl-insecure-skip-verify --insecure-oidc-allow-unverified-email --oidc-enabled-signing-alg=RS256,HS256 --auth-request-response-mode=form_post
