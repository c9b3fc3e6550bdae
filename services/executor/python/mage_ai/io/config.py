"""Connection settings: profiles of `io_config.yaml`, or the environment."""
from __future__ import annotations

import enum
import logging
import os
from typing import Any, Dict, Optional, Union

from mage_ai.settings.repo import get_repo_path

_log = logging.getLogger("orrery.io")

# A group's prefix, and its keys. The members of ConfigKey are all of their combinations.
_KEYS = {
    "AIRTABLE": "ACCESS_TOKEN", "ALGOLIA": "APP_ID API_KEY INDEX_NAME",
    "AWS": "ACCESS_KEY_ID SECRET_ACCESS_KEY SESSION_TOKEN REGION ENDPOINT",
    "AZURE": "CLIENT_ID CLIENT_SECRET TENANT_ID STORAGE_ACCOUNT_NAME",
    "B2": "APPLICATION_KEY_ID APPLICATION_KEY ENDPOINT_URL", "CHROMA": "COLLECTION PATH",
    "CLICKHOUSE": "DATABASE HOST INTERFACE PASSWORD PORT USERNAME",
    "DRUID": "HOST PASSWORD PATH PORT SCHEME USER", "DUCKDB": "DATABASE SCHEMA", "MOTHERDUCK": "TOKEN",
    "GOOGLE": "LOCATION SERVICE_ACC_KEY SERVICE_ACC_KEY_FILEPATH",
    "MONGODB": "COLLECTION CONNECTION_STRING DATABASE HOST PASSWORD PORT USER",
    "MSSQL": "AUTHENTICATION DATABASE DRIVER HOST PASSWORD PORT SCHEMA USER",
    "MYSQL": "ALLOW_LOCAL_INFILE CONNECTION_METHOD DATABASE HOST PASSWORD PORT USER",
    "ORACLEDB": "HOST MODE PASSWORD PORT SERVICE USER", "PINOT": "HOST PASSWORD PATH PORT SCHEME USER",
    "POSTGRES": "CONNECTION_METHOD CONNECT_TIMEOUT DBNAME HOST PASSWORD PORT SCHEMA SSH_HOST SSH_PASSWORD SSH_PKEY "
                "SSH_PORT SSH_USERNAME USER",
    "QDRANT": "COLLECTION PATH",
    "REDSHIFT": "CLUSTER_ID DBNAME DBUSER HOST IAM_PROFILE PORT SCHEMA TEMP_CRED_PASSWORD TEMP_CRED_USER",
    "SNOWFLAKE": "ACCOUNT DEFAULT_DB DEFAULT_SCHEMA DEFAULT_WH PASSWORD PRIVATE_KEY_PASSPHRASE PRIVATE_KEY_PATH ROLE "
                 "TIMEOUT USER",
    "SPARK": "CLUSTER DRIVER ENDPOINT HOST METHOD ORGANIZATION PORT SCHEMA SERVER_SIDE_PARAMETERS TOKEN USER",
    "TRINO": "CATALOG HOST PASSWORD PORT SCHEMA USER",
    "WEAVIATE": "COLLECTION ENDPOINT INFERENCE_API_KEY INSTANCE_API_KEY",
}
_NAMES = [f"{group}_{key}" for group, keys in _KEYS.items() for key in keys.split()]

ConfigKey = enum.Enum("ConfigKey", [(name, name) for name in _NAMES], type=str)  # type: ignore[misc]
ConfigKey.__str__ = lambda self: self.value  # type: ignore[method-assign,misc,assignment]
ConfigKey.__doc__ = "The keys of a profile."

# The group names of the old, nested format; the keys below them that are named otherwise than today's.
_OLD_GROUPS = {"AWS": "AWS", "PostgreSQL": "POSTGRES", "Redshift": "REDSHIFT", "Snowflake": "SNOWFLAKE",
               "BigQuery": "GOOGLE", "Google": "GOOGLE", "Duck DB": "DUCKDB", "MySQL": "MYSQL", "ClickHouse": "CLICKHOUSE",
               "Airtable": "AIRTABLE", "Algolia": "ALGOLIA", "Chroma": "CHROMA", "Druid": "DRUID", "Pinot": "PINOT",
               "Qdrant": "QDRANT", "Spark": "SPARK", "Weaviate": "WEAVIATE", "Backblaze B2": "B2", "MongoDB": "MONGODB",
               "Trino": "TRINO", "trino": "TRINO"}
_OLD_KEYS = {"POSTGRES_DATABASE": "POSTGRES_DBNAME", "REDSHIFT_DATABASE": "REDSHIFT_DBNAME",
             "REDSHIFT_CLUSTER_IDENTIFIER": "REDSHIFT_CLUSTER_ID", "REDSHIFT_DB_USER": "REDSHIFT_DBUSER",
             "REDSHIFT_PROFILE": "REDSHIFT_IAM_PROFILE", "REDSHIFT_USER": "REDSHIFT_TEMP_CRED_USER",
             "REDSHIFT_PASSWORD": "REDSHIFT_TEMP_CRED_PASSWORD", "SNOWFLAKE_DATABASE": "SNOWFLAKE_DEFAULT_DB",
             "SNOWFLAKE_SCHEMA": "SNOWFLAKE_DEFAULT_SCHEMA", "SNOWFLAKE_WAREHOUSE": "SNOWFLAKE_DEFAULT_WH",
             "GOOGLE_CREDENTIALS_MAPPING": "GOOGLE_SERVICE_ACC_KEY",
             "GOOGLE_PATH_TO_CREDENTIALS": "GOOGLE_SERVICE_ACC_KEY_FILEPATH"}


class BaseConfigLoader:
    """Settings by key."""

    def get(self, key: Union[ConfigKey, str], default: Any = None, **_options: Any) -> Any:
        """The value, or the default."""
        raise NotImplementedError

    def contains(self, key: Union[ConfigKey, str], **_options: Any) -> bool:
        """Whether the key has a value."""
        return self.get(key) is not None

    def __contains__(self, key: Union[ConfigKey, str]) -> bool:
        return self.contains(key)

    def __getitem__(self, key: Union[ConfigKey, str]) -> Any:
        return self.get(key)


class EnvironmentVariableLoader(BaseConfigLoader):
    """Each key is an environment variable."""

    def get(self, key: Union[ConfigKey, str], default: Any = None, **_options: Any) -> Any:
        """The variable, or the default."""
        return os.environ.get(str(key), default)


class ConfigFileLoader(BaseConfigLoader):
    """One profile of a file in the format of `io_config.yaml`, rendered as a template first."""

    def __init__(self, filepath: Optional[Union[str, "os.PathLike[str]"]] = None, profile: str = "default",
                 config: Optional[Dict[str, Any]] = None, **_options: Any) -> None:
        self.filepath = str(filepath or os.path.join(get_repo_path(), "io_config.yaml"))
        self.profile = profile
        self.version = None
        if config is None:
            config = self._read()
        self.config: Dict[str, Any] = _flatten(config)

    def _read(self) -> Dict[str, Any]:
        import yaml

        from orrery_runner import templates

        try:
            with open(self.filepath, encoding="utf-8") as file:
                text = file.read()
        except FileNotFoundError:
            _log.warning("%s does not exist; its settings count as empty", self.filepath)
            return {}
        try:
            profiles = yaml.safe_load(templates.render_config(text)) or {}
        except yaml.YAMLError as error:
            raise ValueError(f"{self.filepath} is not valid YAML: {error}") from error
        self.version = profiles.get("version")
        if self.profile not in profiles:
            known = ", ".join(sorted(str(name) for name in profiles if name != "version"))
            raise ValueError(f"{self.filepath} has no profile {self.profile!r}; it has {known or 'none'}")
        return dict(profiles[self.profile] or {})

    def get(self, key: Union[ConfigKey, str], default: Any = None, **_options: Any) -> Any:
        """The value, or the default."""
        value = self.config.get(str(key))
        return default if value is None else value


class _RemoteSecrets(BaseConfigLoader):
    def __init__(self, *_args: Any, **_options: Any) -> None:
        raise RuntimeError(f"{type(self).__name__} is not supported here; give the block its secrets as environment "
                           "variables and use EnvironmentVariableLoader, or env_var() in io_config.yaml")


class AWSSecretLoader(_RemoteSecrets):
    """Not supported: blocks get their secrets from the scheduler."""


def _flatten(profile: Dict[str, Any], prefix: str = "") -> Dict[str, Any]:
    """Today's flat keys, also from the old format, where services are nested maps."""
    flat: Dict[str, Any] = {}
    for key, value in profile.items():
        if isinstance(value, dict) and key in _OLD_GROUPS:
            flat.update(_flatten(value, _OLD_GROUPS[key] + "_"))
        elif prefix:
            name = prefix + str(key).upper()
            flat[_OLD_KEYS.get(name, name)] = value
        else:
            flat[str(key)] = value
    return flat
