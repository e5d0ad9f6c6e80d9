//! A service of docker-compose: `command`, `entrypoint`, `environment`, `env_file`.

use serde_json::Value;

use super::{Collected, Resolved, flags, last_part, variables, words};

/// Reads the services that are an oauth2-proxy.
pub fn read(document: &Value, into: &mut Collected) -> Result<(), String> {
    let services = document.get("services").and_then(Value::as_object);
    let ours = services.into_iter().flatten().filter(|(name, service)| {
        let image = service.get("image").and_then(Value::as_str).unwrap_or_default();
        image.contains("oauth2-proxy") || name.contains("oauth2-proxy") || name.contains("oauth2_proxy")
    });
    for (name, service) in ours {
        into.one_more(name)?;
        match service.get("environment") {
            Some(Value::Object(entries)) => {
                for (name, value) in entries {
                    let value = match value {
                        Value::Null => Resolved::Kept(format!("the variable {name} of the shell that starts compose")),
                        Value::String(text) => into.resolve(text),
                        other => Resolved::Value(other.to_string()),
                    };
                    variables::one(name, value, into);
                }
            }
            Some(Value::Array(entries)) => {
                for (name, value) in entries.iter().filter_map(Value::as_str).filter_map(variables::assignment) {
                    let value = into.resolve(value);
                    variables::one(name, value, into);
                }
            }
            _ => {}
        }
        for file in texts(service.get("env_file")) {
            if !into.names.iter().any(|name| name == last_part(&file)) {
                into.absent.push(format!("the service reads variables from {file}, which was not given: run the import again with it"));
            }
        }
        for key in ["entrypoint", "command"] {
            match service.get(key) {
                Some(Value::String(line)) => flags::read(&words::split(line), into),
                list => flags::read(&texts(list), into),
            }
        }
    }
    Ok(())
}

fn texts(value: Option<&Value>) -> Vec<String> {
    match value {
        Some(Value::Array(items)) => items.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
        Some(Value::String(text)) => vec![text.clone()],
        _ => Vec::new(),
    }
}
