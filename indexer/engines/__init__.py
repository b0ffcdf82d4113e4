"""The same work on engines that span machines; none of their types leaves here."""
