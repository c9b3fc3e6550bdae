//! What a person may do: roles over the whole cluster and in a project, and the two of a workspace, on one scale.
//! Refuses to know who holds one, and which act needs which.

use std::fmt;

/// A role over the whole cluster or in a project; each includes those before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// Reads everything, changes and runs nothing.
    Viewer,
    /// Deploys, runs, edits triggers.
    Editor,
    /// Also people, secrets and archiving.
    Admin,
    /// Everything.
    Owner,
}

impl Role {
    /// All of them, from the least.
    pub const ALL: [Self; 4] = [Self::Viewer, Self::Editor, Self::Admin, Self::Owner];

    /// As it is written in columns and on the command line.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Viewer => "viewer",
            Self::Editor => "editor",
            Self::Admin => "admin",
            Self::Owner => "owner",
        }
    }

    /// The role of a word.
    #[must_use]
    pub fn of_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|role| role.word() == word)
    }

    /// From 1 (viewer) to 4 (owner).
    #[must_use]
    pub const fn rank(self) -> i32 {
        match self {
            Self::Viewer => 1,
            Self::Editor => 2,
            Self::Admin => 3,
            Self::Owner => 4,
        }
    }

    /// The role of a rank from 1 (viewer) to 4 (owner); `None` for 0, which grants nothing.
    #[must_use]
    pub fn of_rank(rank: i32) -> Option<Self> {
        usize::try_from(rank).ok()?.checked_sub(1).and_then(|at| Self::ALL.get(at)).copied()
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

/// A role in one workspace.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum WorkspaceRole {
    /// Works in it: an [`Role::Editor`] there.
    Collaborator,
    /// It is theirs: an [`Role::Owner`] there.
    Owner,
}

impl WorkspaceRole {
    /// As it is written in columns and on the command line.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Collaborator => "collaborator",
            Self::Owner => "owner",
        }
    }

    /// The role of a word.
    #[must_use]
    pub fn of_word(word: &str) -> Option<Self> {
        [Self::Collaborator, Self::Owner].into_iter().find(|role| role.word() == word)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_and_ranks_are_one_scale() {
        for (at, role) in Role::ALL.into_iter().enumerate() {
            assert_eq!(Role::of_word(role.word()), Some(role));
            assert_eq!((Role::of_rank(at as i32 + 1), role.rank()), (Some(role), at as i32 + 1));
        }
        assert!(Role::Owner > Role::Admin && Role::Editor > Role::Viewer && None < Some(Role::Viewer));
        assert_eq!((Role::of_rank(0), Role::of_rank(5), Role::of_word("Owner")), (None, None, None));
    }
}
