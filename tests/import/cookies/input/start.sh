#!/bin/sh
exec oauth2-proxy \
  --provider=oidc \
  --oidc-issuer-url=https://login.example.com \
  --client-id=app --client-secret=s3cret-of-the-app --cookie-secret=OQINaROshtE9TcZkNAm-5Zs2Pv3xaWytBmc5W7sPX7w= \
  --redirect-url=https://app.example.com/oauth2/callback \
  --email-domain=example.com \
  --upstream=http://127.0.0.1:8080/ --cookie-name=__Secure-orders --cookie-path=/poc/ --cookie-domain=.example.com,.example.org --cookie-expire=0 \
  --cookie-samesite=none --cookie-httponly=false --cookie-csrf-per-request --cookie-csrf-expire=5m --cookie-refresh=1h
