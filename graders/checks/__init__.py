"""The built-in graders: one class a rule; its docstring is the rule's documentation. Importing this registers them."""

from graders.checks import action, approval, efficiency, evidence, grounds, tools, untrusted

__all__ = ["action", "approval", "efficiency", "evidence", "grounds", "tools", "untrusted"]
