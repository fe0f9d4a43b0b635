#!/usr/bin/env python3
"""Make manual pages and shell completions: scripts/make_manual.py BIN OUT

From the option tables of the programs in BIN (their --help-table, see base/options_table.h) and the texts in docs/man:
OUT/man/*.1, *.5, *.8 and OUT/completions/{tokentls.bash,_tokentls,tokentls.fish}. The build runs it.
"""

import os
import pathlib
import re
import shlex
import subprocess
import sys

TEXTS = pathlib.Path(__file__).resolve().parent.parent / "docs" / "man"
DAEMONS = ("tokentls-agent", "tokentls-gateway")
UNESCAPED = {"n": "\n", "t": "\t", "\\": "\\"}
PIN_SOURCES = ["file:", "env:", "credential:", "fd:", "ask", "pinentry", "none"]


def records(program, *argv):
    """(kind, fields) of each line of a program's table."""
    done = subprocess.run([program, *argv, "--help-table"], capture_output=True, text=True, check=True)
    for line in done.stdout.splitlines():
        fields = [re.sub(r"\\(.)", lambda m: UNESCAPED[m.group(1)], field) for field in line.split("\t")]
        yield fields[0], fields[1:]


class Table:
    """The table of one program or command."""

    def __init__(self, program, *argv):
        self.options, self.sections = [], []
        self.description = self.positionals = self.epilog = ""
        for kind, fields in records(program, *argv):
            if kind == "option":
                self.options.append(fields)
            elif kind == "section":
                self.sections.append((fields, []))
            elif kind == "setting":
                self.sections[-1][1].append(fields)
            elif kind in ("description", "positionals", "epilog"):
                setattr(self, kind, fields[0])


def roff(text):
    """Text as roff takes it: nothing in it is a request or an escape, dashes can be copied."""
    for character, escape in (("\\", "\\e"), ("-", "\\-"), ("'", "\\(aq"), ("`", "\\(ga"), ("^", "\\(ha"), ("~", "\\(ti")):
        text = text.replace(character, escape)
    return re.sub(r"^\.", r"\\&.", text, flags=re.M)


def heading(name, section, version):
    return f'.TH {name.upper().replace("-", chr(92) + "-")} {section} "" "tokentls {version}" "tokentls manual"\n'


def synopsis(name, table):
    words = [f".B {roff(name)}\n"]
    for option, argument, kind, required, _ in table.options:
        text = rf"\fB\-\-{roff(option)}\fR" + (rf" \fI{roff(argument)}\fR" if argument else "")
        words.append(f"{text}\n" if required else f"[{text}]{'...' if kind == 'list' else ''}\n")
    if table.positionals:
        words.append(rf"\fI{roff(table.positionals)}\fR" + "\n")
    return ".SH SYNOPSIS\n.nh\n.ad l\n" + "".join(words) + ".ad\n.hy\n"


def option_list(table):
    text = ".SH OPTIONS\n"
    for option, argument, kind, required, explanation in table.options:
        more = "; may be repeated" if kind == "list" else " (required)" if required else ""
        text += ".TP\n" + rf"\fB\-\-{roff(option)}\fR" + (rf" \fI{roff(argument)}\fR" if argument else "") + "\n"
        text += roff((explanation + more).rstrip(".")) + ".\n"
    return text


def epilog(table):
    """Examples and exit statuses as sections of their own."""
    text = ""
    for part in re.split(r"\n\n(?=[a-z ]+:)", table.epilog.strip()):
        title, _, body = part.partition(":")
        if title in ("examples", "example"):
            text += ".SH EXAMPLES\n.nf\n" + roff(re.sub(r"^  ", "", body.strip("\n"), flags=re.M)) + "\n.fi\n"
        elif body:
            text += f".SH {title.upper()}\n" + roff(" ".join(body.split())) + "\n"
    return text


def written(name):
    """The hand-written part of a page: sections of roff."""
    path = TEXTS / f"{name}.in"
    return path.read_text() if path.exists() else ""


def description(text):
    return ".SH DESCRIPTION\n" + roff(text) + "\n" if text else ""


def command_page(command, table, about, version):
    name = f"tokentls-{command}"
    return (heading(name, 1, version) + f".SH NAME\n{roff(name)} \\- {roff(about)}\n" + synopsis(f"tokentls {command}", table) +
            description(table.description) + option_list(table) + written(f"{name}.1") + epilog(table) +
            ".SH SEE ALSO\n.BR tokentls (1),\n.BR tokentls\\-agent (8),\n.BR tokentls\\-gateway (8)\n")


def overview_page(commands, version):
    listed = "".join(f".TP\n.BR tokentls\\-{roff(name)} (1)\n{roff(about)}\n" for name, about in commands)
    return (heading("tokentls", 1, version) + written("tokentls.1").replace("@COMMANDS@\n", listed))


def daemon_page(name, table, version):
    about, _, rest = written(f"{name}.8").partition("\n")
    return (heading(name, 8, version) + f".SH NAME\n{roff(name)} \\- {about}\n" + synopsis(name, table) +
            description(table.description) + option_list(table) + rest + epilog(table) +
            f".SH SEE ALSO\n.BR tokentls (1),\n.BR {roff(name)}.conf (5),\n.BR tokentls\\-keyholder (8)\n")


def setting(fields):
    name, kind, required, default, explanation = fields
    more = " Required." if required else f" Default: {default}." if default else ""
    return f".TP\n\\fB{roff(name)}\\fR = \\fI{roff(kind)}\\fR\n{roff(explanation + more)}\n"


def file_page(name, table, version):
    text = heading(f"{name}.conf", 5, version) + f".SH NAME\n{roff(name)}.conf \\- configuration of {roff(name)}\n"
    text += written("conf.5")
    for (section, title, repeated, explanation), settings in table.sections:
        words = f"{section} {title}".strip() if section else "outside sections"
        text += f'.SH "{roff(words).upper()}"\n' + (roff(explanation) + "\n" if explanation else "")
        text += "May be repeated.\n" if repeated else ""
        text += "".join(setting(fields) for fields in settings)
    return text + f".SH SEE ALSO\n.BR {roff(name)} (8)\n"


def write_pages(programs, tables, commands, out):
    version = subprocess.run([programs / "tokentls", "--version"], capture_output=True, text=True, check=True).stdout.split()[1]
    pages = {"tokentls.1": overview_page(commands, version),
             "tokentls-keyholder.8": heading("tokentls-keyholder", 8, version) + written("tokentls-keyholder.8")}
    for command, about in commands:
        pages[f"tokentls-{command}.1"] = command_page(command, tables[command], about, version)
    for daemon in DAEMONS:
        table = Table(programs / daemon)
        pages[f"{daemon}.8"] = daemon_page(daemon, table, version)
        pages[f"{daemon}.conf.5"] = file_page(daemon, table, version)
    out.mkdir(parents=True, exist_ok=True)
    for old in out.iterdir():
        old.unlink()
    for name, text in pages.items():
        (out / name).write_text(text)


def value_kind(option):
    """What completes an option's argument: a list of words, "file", or None for what only the user knows."""
    _, argument, kind, _, _ = option
    if kind == "choice":
        return argument.split("|")
    if argument in ("FILE", "PATH", "FOLDER", "DIRECTORY"):
        return "file"
    return PIN_SOURCES if argument == "SRC" else None


def bash(commands, tables):
    text = ["# bash completion of tokentls; made from the programs' option tables", "_tokentls()", "{",
            "    local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]} command=${COMP_WORDS[1]}", "    COMPREPLY=()",
            "    if [ \"$COMP_CWORD\" -eq 1 ]; then",
            f"        COMPREPLY=($(compgen -W '{' '.join(name for name, _ in commands)} help --help --version' -- \"$cur\"))",
            "        return", "    fi", "    case \"$command $prev\" in"]
    for command, table in tables.items():
        for option in table.options:
            if option[2] == "flag":
                continue
            kind = value_kind(option)
            words = "compopt -o filenames 2>/dev/null; COMPREPLY=($(compgen -f -- \"$cur\")); return" if kind == "file" else "return"
            if isinstance(kind, list):
                words = f"COMPREPLY=($(compgen -W '{' '.join(kind)}' -- \"$cur\")); return"
            text.append(f"    '{command} --{option[0]}') {words} ;;")
    text += ["    esac", "    case \"$command\" in"]
    for command, table in tables.items():
        words = " ".join(f"--{option[0]}" for option in table.options)
        text.append(f"    {command}) COMPREPLY=($(compgen -W '{words}' -- \"$cur\")) ;;")
    text += [f"    help) COMPREPLY=($(compgen -W '{' '.join(name for name, _ in commands)}' -- \"$cur\")) ;;", "    esac",
             "    case \"$command $cur\" in", "    *' -'*) ;;"]
    for command, table in tables.items():
        if table.positionals in ("FILE", "LEAF"):
            text.append(f"    {command}\\ *) compopt -o filenames 2>/dev/null; COMPREPLY=($(compgen -f -- \"$cur\")) ;;")
    return "\n".join(text + ["    esac", "}", "complete -F _tokentls tokentls", ""])


def zsh_text(text):
    return re.sub(r"([\[\]:\\])", r"\\\1", text).replace("'", "'\\''")


def zsh(commands, tables):
    text = ["#compdef tokentls", "# made from the programs' option tables", "_tokentls() {", "  local -a commands", "  commands=("]
    text += [f"    '{zsh_text(name)}:{zsh_text(about)}'" for name, about in commands]
    text += ["  )", "  if (( CURRENT == 2 )); then", "    _describe command commands", "    return", "  fi",
             "  local command=$words[2]", "  shift words", "  (( CURRENT-- ))", "  case $command in"]
    for command, table in tables.items():
        lines = []
        for option in table.options:
            kind = value_kind(option)
            action = "_files" if kind == "file" else f"({' '.join(kind).replace(':', chr(92) + ':')})" if kind else " "
            value = "" if option[2] == "flag" else f":{zsh_text(option[1])}:{action}"
            lines.append(f"'{'*' if option[2] == 'list' else ''}--{option[0]}[{zsh_text(option[4])}]{value}'")
        if table.positionals:
            lines.append(f"'*:{zsh_text(table.positionals)}:{'_files' if table.positionals in ('FILE', 'LEAF') else ' '}'")
        text += [f"  {command})", "    _arguments \\", *[f"      {line} \\" for line in lines[:-1]], f"      {lines[-1]}", "    ;;"]
    return "\n".join(text + ["  esac", "}", '_tokentls "$@"', ""])


def fish(commands, tables):
    text = ["# fish completion of tokentls; made from the programs' option tables", "complete -c tokentls -f"]
    for name, about in commands:
        text.append(f"complete -c tokentls -n __fish_use_subcommand -a {name} -d {shlex.quote(about)}")
    for command, table in tables.items():
        condition = shlex.quote(f"__fish_seen_subcommand_from {command}")
        for option in table.options:
            kind = value_kind(option)
            value = "" if option[2] == "flag" else " -r -F" if kind == "file" else " -x"
            if isinstance(kind, list):
                value += f" -a {shlex.quote(' '.join(kind))}"
            text.append(f"complete -c tokentls -n {condition} -l {option[0]}{value} -d {shlex.quote(option[4])}")
        if table.positionals in ("FILE", "LEAF"):
            text.append(f"complete -c tokentls -n {condition} -F")
    return "\n".join([*text, ""])


def main():
    """Make everything."""
    if len(sys.argv) != 3:
        sys.exit("usage: scripts/make_manual.py BIN OUT")
    programs, out = pathlib.Path(sys.argv[1]).resolve(), pathlib.Path(sys.argv[2])
    os.environ["LC_ALL"] = "C.UTF-8"
    commands = [tuple(fields) for kind, fields in records(programs / "tokentls") if kind == "command"]
    tables = {name: Table(programs / "tokentls", name) for name, _ in commands}
    write_pages(programs, tables, commands, out / "man")
    shells = out / "completions"
    shells.mkdir(parents=True, exist_ok=True)
    (shells / "tokentls.bash").write_text(bash(commands, tables))
    (shells / "_tokentls").write_text(zsh(commands, tables))
    (shells / "tokentls.fish").write_text(fish(commands, tables))


if __name__ == "__main__":
    main()
