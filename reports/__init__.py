"""Reports from result rows. `build.write_report` writes a whole report, `choose.write_choice` compares backbones.

docs/architecture.md describes the packages in this one. `LEVELS` of tests/test_architecture.py lists their imports.
"""
