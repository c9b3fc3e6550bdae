//! What can be typed about people, projects and secrets. No password, token or secret is an argument: every process of the
//! machine could read it there.

use clap::{Args, Subcommand, ValueEnum};
use jiff::SignedDuration;
use std::path::PathBuf;

/// Roles over the whole cluster and in projects.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Role {
    None,
    Viewer,
    Editor,
    Admin,
    Owner,
}

/// Roles in a workspace.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum WorkspaceRole {
    Collaborator,
    Owner,
}

#[derive(Debug, Args)]
pub(crate) struct Login {
    /// Your e-mail address
    #[arg(long)]
    pub(crate) email: Option<String>,
    /// Read the password from this file instead of asking for it; the new one, where it is of one use, is its second line
    #[arg(long, value_name = "FILE")]
    pub(crate) password_file: Option<PathBuf>,
    /// Sign in at the server's page instead, in whatever way you do that, and let this terminal in there
    #[arg(long, conflicts_with_all = ["email", "password_file"])]
    pub(crate) browser: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Users {
    /// Add a person; prints a one-time password
    Add {
        /// E-mail address
        email: String,
        /// As shown
        #[arg(long, default_value = "")]
        name: String,
        /// Over the whole cluster
        #[arg(long, default_value = "none")]
        role: Role,
    },
    /// Change the role over the whole cluster
    Role {
        /// E-mail address
        email: String,
        /// The new one
        role: Role,
    },
    /// End sessions and tokens, and let nobody in
    Disable {
        /// E-mail address
        email: String,
    },
    /// Let the person in again
    Enable {
        /// E-mail address
        email: String,
    },
    /// Print a new one-time password
    ResetPassword {
        /// E-mail address
        email: String,
    },
    /// Forget who the person is at the provider of sign-ins, which names its people anew
    Unlink {
        /// E-mail address
        email: String,
    },
    /// Show or set what a person's runtimes hold at once over all projects, or everybody's who has no quota of their own
    Quota {
        /// E-mail address; everybody's without one
        email: Option<String>,
        #[command(flatten)]
        quota: Box<super::gpus::QuotaOptions>,
        /// Take it away: for a person, everybody's holds again
        #[arg(long, conflicts_with_all = ["gpu", "model_gpu", "cpu", "memory", "storage", "runtimes"])]
        remove: bool,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum Groups {
    /// Make a group
    Create {
        /// A DNS label
        name: String,
    },
    /// Delete a group
    Delete {
        /// Its name
        name: String,
    },
    /// List its members
    Members {
        /// Its name
        name: String,
    },
    /// Show or set whether its projects may let containers run as root, and what they hold together
    Policy {
        /// Its name
        name: String,
        /// They may, when they allow it themselves; --allow-root false takes it back
        #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true")]
        allow_root: Option<bool>,
        #[command(flatten)]
        quota: Box<super::gpus::QuotaOptions>,
    },
    /// Add a person
    Add {
        /// The group
        name: String,
        /// E-mail address
        email: String,
    },
    /// Remove a person
    Remove {
        /// The group
        name: String,
        /// E-mail address
        email: String,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum Tokens {
    /// Make a token; prints it this once
    Create {
        /// What it is for
        name: String,
        /// How long it lasts, such as 24h or 2160h [default: 90 days]
        #[arg(long)]
        lifetime: Option<SignedDuration>,
    },
    /// End a token or a session
    Revoke {
        /// Its id, or the prefix of a token
        token: String,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum Members {
    /// Add a person by e-mail address
    Invite {
        /// E-mail address
        email: String,
        /// What they may do
        #[arg(long, default_value = "collaborator")]
        role: WorkspaceRole,
    },
    /// Promote or demote
    Set {
        /// E-mail address
        email: String,
        /// The new role
        role: WorkspaceRole,
    },
    /// Remove a member or an invitation
    Remove {
        /// E-mail address
        email: String,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum Projects {
    /// Make a project
    Create {
        /// A DNS label
        name: String,
        /// The group that owns it
        #[arg(long, default_value = "")]
        group: String,
    },
    /// Take a project out of use
    Archive {
        /// Its name
        name: String,
    },
    /// List its members
    Members {
        /// Its name
        name: String,
    },
    /// Show or change what its runtimes may be and hold
    Policy {
        /// The project
        name: String,
        #[command(flatten)]
        policy: Box<super::gpus::PolicyOptions>,
    },
    /// Give a person or a group a role
    Grant {
        /// The project
        name: String,
        #[command(flatten)]
        who: Who,
        /// The role
        #[arg(long, default_value = "editor")]
        role: Role,
    },
    /// Remove a person or a group
    Revoke {
        /// The project
        name: String,
        #[command(flatten)]
        who: Who,
    },
}

/// A person or a group.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub(crate) struct Who {
    /// E-mail address
    #[arg(long)]
    pub(crate) email: Option<String>,
    /// A group
    #[arg(long)]
    pub(crate) group: Option<String>,
}

/// Whose secrets: the workspace's, unless said otherwise.
#[derive(Debug, Args)]
pub(crate) struct Scope {
    /// Those of this pipeline of the workspace
    #[arg(long, global = true, value_name = "NAME", conflicts_with = "project")]
    pub(crate) pipeline: Option<String>,
    /// Those of this project
    #[arg(long, global = true, value_name = "NAME")]
    pub(crate) project: Option<String>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Secrets {
    /// Set a value, read from standard input or a file
    Set {
        /// Its name, as blocks ask for it
        name: String,
        /// Read the value from this file, as it is
        #[arg(long, value_name = "FILE")]
        from_file: Option<PathBuf>,
    },
    /// Forget a secret
    Delete {
        /// Its name
        name: String,
    },
    /// Seal every secret anew with the cluster's first key, while they are in use
    Rotate,
}

#[derive(Debug, Args)]
pub(crate) struct Audit {
    /// Of the whole cluster, not only of the workspace
    #[arg(long)]
    pub(crate) all: bool,
    /// Only of this person
    #[arg(long, value_name = "EMAIL")]
    pub(crate) actor: Option<String>,
    /// At most so many
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub(crate) limit: u32,
}
