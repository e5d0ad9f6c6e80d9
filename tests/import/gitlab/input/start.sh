oauth2-proxy --provider=gitlab --oidc-issuer-url=https://gitlab.example.com --client-id=app --client-secret=s3cret \
  --redirect-url=https://app.example.com/oauth2/callback --email-domain='*' --upstream=http://127.0.0.1:8080 \
  --gitlab-group=infra,infra/oncall --gitlab-project=infra/site=30 --scope="openid email read_api"
