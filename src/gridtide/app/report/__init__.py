"""A study's report: a printable page (`html.render_html`) and a terminal summary (`terminal.print_report`)."""
