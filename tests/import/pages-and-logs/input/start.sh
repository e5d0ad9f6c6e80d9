#!/bin/sh
exec oauth2-proxy \
  --provider=oidc \
  --oidc-issuer-url=https://login.example.com \
  --client-id=app --client-secret=s3cret-of-the-app --cookie-secret=OQINaROshtE9TcZkNAm-5Zs2Pv3xaWytBmc5W7sPX7w= \
  --redirect-url=https://app.example.com/oauth2/callback \
  --email-domain=example.com \
  --upstream=http://127.0.0.1:8080/ --proxy-prefix=/sso --custom-sign-in-logo=@FILES@/logo.svg --banner='<b>Welcome</b>' --footer=- \
  --custom-templates-dir=/etc/templates --whitelist-domain=spa.example.net,other.example.net:8443,any.example.net:* --request-logging=false \
  --logging-filename=/var/log/proxy.log --exclude-logging-path=/metrics --silence-ping-logging --gcp-healthchecks --ping-user-agent=kube-probe
