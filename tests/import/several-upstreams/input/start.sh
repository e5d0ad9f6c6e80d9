#!/bin/sh
exec oauth2-proxy \
  --provider=oidc \
  --oidc-issuer-url=https://login.example.com \
  --client-id=app --client-secret=s3cret-of-the-app --cookie-secret=OQINaROshtE9TcZkNAm-5Zs2Pv3xaWytBmc5W7sPX7w= \
  --redirect-url=https://app.example.com/oauth2/callback \
  --email-domain=example.com \
  --upstream=http://app:8080/ --upstream=http://orders:8080/orders/ --upstream=https://one.example.com:8443/exact \
  --upstream='file:///srv/www#/static/' --pass-host-header=false --upstream-timeout=2m --ssl-upstream-insecure-skip-verify \
  --skip-auth-route='^/orders/public/' --skip-auth-route='^/static/' --skip-auth-route='health'
