"""The same library on engines that span machines; none is loaded before it is asked for."""
