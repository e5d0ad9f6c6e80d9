oauth2-proxy --client-id=from-flags --email-domain=flags.example.com
