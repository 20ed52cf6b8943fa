"""Settings for schedulers that give a job no environment, such as serverless jobs on Databricks."""

import base64
import os
from collections.abc import Iterable

import click


def set_variables(settings: Iterable[str], secret_scope: str | None) -> None:
    """Set environment variables: the secrets of a scope, each under its key, then NAME=VALUE.

    Raise UsageError where a setting has no name, or the scope cannot be read.
    """
    if secret_scope:
        os.environ.update(databricks_secrets(secret_scope))
    for setting in settings:
        name, equals, value = setting.partition("=")
        if not (name and equals):
            raise click.UsageError(f"--set {setting}: say NAME=VALUE")
        os.environ[name] = value


def databricks_secrets(scope: str) -> dict[str, str]:
    """Return the secrets of a Databricks scope, by key.

    Address and login are found as the SDK finds them: on Databricks those of the job, elsewhere in
    DATABRICKS_HOST, DATABRICKS_TOKEN and so on. https://docs.databricks.com/aws/en/security/secrets
    """
    try:
        from databricks.sdk import WorkspaceClient  # noqa: PLC0415 - needed for scopes only
        from databricks.sdk.errors import DatabricksError  # noqa: PLC0415 - likewise
    except ImportError as error:
        raise click.UsageError("--secret-scope needs the package databricks-sdk") from error
    try:
        secrets = WorkspaceClient().secrets
        keys = [found.key for found in secrets.list_secrets(scope) if found.key]
        return {
            key: base64.b64decode(secrets.get_secret(scope, key).value or "").decode()
            for key in keys
        }
    except (DatabricksError, ValueError) as error:
        first = str(error).split("\n", 1)[0]
        raise click.UsageError(f"--secret-scope {scope} cannot be read: {first}") from error
