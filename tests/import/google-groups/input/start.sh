oauth2-proxy --client-id=1.apps.googleusercontent.com --client-secret=s3cret --redirect-url=https://app.example.com/oauth2/callback \
  --email-domain=example.com --upstream=http://127.0.0.1:8080 --google-group=staff@example.com --google-admin-email=root@example.com \
  --google-service-account-json=/etc/google.json --approval-prompt=force --prompt=select_account
