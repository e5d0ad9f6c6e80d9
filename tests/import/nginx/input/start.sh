#!/bin/sh
exec oauth2-proxy \
  --provider=oidc \
  --oidc-issuer-url=https://login.example.com \
  --client-id=app --client-secret=s3cret-of-the-app --cookie-secret=OQINaROshtE9TcZkNAm-5Zs2Pv3xaWytBmc5W7sPX7w= \
  --redirect-url=https://app.example.com/oauth2/callback \
  --email-domain=example.com \
  --upstream=file:///dev/null --reverse-proxy --trusted-proxy-ip=127.0.0.1 --set-xauthrequest --pass-access-token --http-address=127.0.0.1:4180
