oauth2-proxy --provider=github --client-id=app --client-secret=s3cret --redirect-url=https://app.example.com/oauth2/callback \
  --email-domain='*' --upstream=http://127.0.0.1:8080 --github-org=acme --github-team=platform,security --github-user=ann \
  --github-token=ghp_of_somebody
