package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime/debug"
	"strings"
	"time"

	"github.com/urfave/cli/v3"

	"github.com/amqpkit/amqpkit/internal/validate"
)

// An app is one run of the command.
type app struct {
	in       io.Reader
	out, err io.Writer
	getenv   func(string) string
	name     string        // of the command that runs, such as "send"
	interval time.Duration // between two lines of progress; zero means the default
}

// run runs the command with args, of which the first is the name of the program, and returns its exit code.
func run(ctx context.Context, args []string, in io.Reader, out, errors io.Writer, getenv func(string) string) int {
	return (&app{in: in, out: out, err: errors, getenv: getenv}).run(ctx, args)
}

func (a *app) run(ctx context.Context, args []string) int {
	err := a.root().Run(ctx, args)
	if err == nil {
		return exitOK
	}
	code := exitCode(ctx, err)
	text := a.describe(err)
	if code == exitInterrupted && text != "" {
		text = "interrupted"
	}
	if text != "" {
		fmt.Fprintf(a.err, "%s: %s\n", strings.TrimSpace("amqpkit "+a.name), text)
	}
	return code
}

// root returns the tree of commands.
func (a *app) root() *cli.Command {
	root := &cli.Command{
		Name:                  "amqpkit",
		Usage:                 "work with RabbitMQ at a terminal",
		Version:               version(),
		Description:           rootHelp,
		Reader:                a.in,
		Writer:                a.out,
		ErrWriter:             a.err,
		EnableShellCompletion: true,
		ConfigureShellCompletionCommand: func(c *cli.Command) {
			c.Hidden, c.Usage = false, "print a completion script for bash, zsh, fish or pwsh"
		},
		Suggest: true,
		Flags:   connectionFlags(),
		Commands: []*cli.Command{
			a.sendCommand(), a.receiveCommand(), a.parkedCommand(), a.brokerCommand(),
		},
		ExitErrHandler: func(context.Context, *cli.Command, error) {}, // run reports the error
		Action: func(_ context.Context, c *cli.Command) error {
			if name := c.Args().First(); name != "" {
				return unknownCommand(c, name)
			}
			return cli.ShowRootCommandHelp(c)
		},
	}
	_ = root.Walk(func(c *cli.Command) error {
		c.DisableSliceFlagSeparator = true // the value of a header may contain a comma
		c.OnUsageError = func(_ context.Context, c *cli.Command, err error, _ bool) error {
			a.name = commandName(c)
			return usage("%s; see %s --help", lowerFirst(err.Error()), c.FullName())
		}
		switch action := c.Action; {
		case c == root:
		case action == nil: // a group of commands
			c.Action = func(_ context.Context, c *cli.Command) error {
				a.name = commandName(c)
				if name := c.Args().First(); name != "" {
					return unknownCommand(c, name)
				}
				return cli.ShowSubcommandHelp(c)
			}
		default:
			c.HideHelpCommand = true // an argument may be "help"
			c.Action = func(ctx context.Context, c *cli.Command) error {
				a.name = commandName(c)
				return action(ctx, c)
			}
		}
		return nil
	})
	return root
}

const rootHelp = `The broker is the one of --url, else of --profile, else of the variable
AMQP_URL, else of the profile "default", else amqp://guest:guest@127.0.0.1.
Profiles are in the file amqpkit/config.json of your configuration folder,
or in the file that the variable AMQPKIT_CONFIG names:

  {"profiles": {"staging": {
    "url": "amqps://rabbit.example.org/orders",
    "user": "ops", "password_file": "/run/secrets/rabbit",
    "ca": "ca.pem", "cert": "client.pem", "key": "client-key.pem",
    "management": "https://rabbit.example.org:15671"}}}

Other users can read the arguments of a process. So a password belongs in
AMQP_URL, in a profile, or in the file of --password-file.

--output json prints one JSON object per line.

Exit codes:

  0    success
  1    failure
  2    wrong usage
  4    some messages were not delivered: no queue, refused, or unknown
  130  interrupted by Ctrl-C`

// unknownCommand reports a name that is not a command of c.
func unknownCommand(c *cli.Command, name string) error {
	var names []string
	for _, sub := range c.VisibleCommands() {
		names = append(names, sub.Name)
	}
	fix := "use one of " + strings.Join(names, ", ")
	if similar := validate.Similar(name, names); similar != "" {
		fix = "did you mean " + similar + "?"
	}
	return usage("unknown command %s; %s", validate.Quote(name), fix)
}

// commandName returns the name of a command without the name of the program.
func commandName(c *cli.Command) string {
	_, name, _ := strings.Cut(c.FullName(), " ")
	return name
}

func lowerFirst(s string) string {
	if s == "" {
		return s
	}
	return strings.ToLower(s[:1]) + s[1:]
}

// version returns the version of the module that the command was built from.
func version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	v := info.Main.Version
	if v == "" || v == "(devel)" {
		v = "development"
	}
	return v + " " + info.GoVersion
}

// argument returns the only argument of a command, which has the given name in its help.
func argument(c *cli.Command, name string) (string, error) {
	list, err := arguments(c, name)
	if err != nil {
		return "", err
	}
	return list[0], nil
}

// arguments returns the arguments of a command, one for each name.
func arguments(c *cli.Command, names ...string) ([]string, error) {
	list := c.Args().Slice()
	switch {
	case len(list) < len(names):
		return nil, usage("%s is missing; usage: %s", names[len(list)], c.FullName()+" "+strings.Join(names, " "))
	case len(list) > len(names):
		return nil, usage("unexpected argument %s; usage: %s", validate.Quote(list[len(names)]), c.FullName()+" "+strings.Join(names, " "))
	}
	for i, arg := range list {
		if arg == "" {
			return nil, usage("%s is empty", names[i])
		}
	}
	return list, nil
}

// interrupted reports whether ctx was ended by the user.
func interrupted(ctx context.Context) bool { return errors.Is(ctx.Err(), context.Canceled) }
