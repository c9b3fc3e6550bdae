"""Part of the interface that Mage projects import."""
