"""What people see: plain summaries -> tables and figures -> terminal or one page."""
