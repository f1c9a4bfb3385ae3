package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/urfave/cli/v3"

	"github.com/amqpkit/amqpkit"
	"github.com/amqpkit/amqpkit/amqperr"
	"github.com/amqpkit/amqpkit/internal/validate"
)

// connectionFlags are the flags of all commands.
func connectionFlags() []cli.Flag {
	const category = "Broker and output"
	return []cli.Flag{
		&cli.StringFlag{Name: "url", Usage: "`URL` of the broker, without a password", Category: category},
		&cli.StringFlag{Name: "profile", Usage: "`NAME` of a profile in the configuration file", Category: category},
		&cli.StringFlag{Name: "password-file", Usage: "`FILE` with the password", Category: category, TakesFile: true},
		&cli.StringFlag{Name: "output", Usage: "`FORMAT` of the output: text or json", Value: "text", Category: category, Validator: func(s string) error {
			if s != "text" && s != "json" {
				return fmt.Errorf("unknown format %s; write text or json", validate.Quote(s))
			}
			return nil
		}},
	}
}

func wantsJSON(c *cli.Command) bool { return c.String("output") == "json" }

// connect connects to the broker of the flags, the environment or the profile.
func (a *app) connect(ctx context.Context, c *cli.Command) (*amqpkit.Conn, error) {
	p, err := a.profile(c)
	if err != nil {
		return nil, err
	}
	cfg, err := p.config()
	if err != nil {
		return nil, err
	}
	cfg.Name = "amqpkit " + a.name
	cfg.Logger = a.logger()
	conn, err := amqpkit.DialConfig(ctx, cfg)
	var wrong *amqperr.FieldError
	if errors.As(err, &wrong) && strings.HasPrefix(wrong.Field, "URLs[0]") {
		named := *wrong
		named.Field = p.where + strings.TrimPrefix(wrong.Field, "URLs[0]")
		return nil, &named
	}
	return conn, err
}

// close closes a Conn, also after Ctrl-C, and does not wait long for the broker.
func (a *app) close(conn *amqpkit.Conn) {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	if err := conn.Close(ctx); err != nil {
		a.warn("%v", err)
	}
}

// logger returns a Logger that writes warnings to the standard error.
func (a *app) logger() *slog.Logger {
	return slog.New(slog.NewTextHandler(a.err, &slog.HandlerOptions{Level: slog.LevelWarn}))
}

// warn writes a line that is not a result to the standard error.
func (a *app) warn(format string, args ...any) {
	fmt.Fprintf(a.err, "amqpkit %s: %s\n", a.name, fmt.Sprintf(format, args...))
}

// profile returns the profile that applies: the flags, the environment, the file, or the default.
func (a *app) profile(c *cli.Command) (p profile, err error) {
	flag, name := c.String("url"), c.String("profile")
	switch env := a.getenv("AMQP_URL"); {
	case flag != "" && name != "":
		return p, usage("--url and --profile exclude each other; keep one")
	case flag != "":
		if hasSecret(flag) {
			return p, usage("--url contains a password, which other users can read in the list of processes; " +
				"put the URL into AMQP_URL or a profile, or the password into a file for --password-file")
		}
		p.URL, p.where = flag, "--url"
	case name != "":
		p, err = a.readProfile(name, true)
	case env != "":
		p.URL, p.where = env, "AMQP_URL"
	default:
		if p, err = a.readProfile("default", false); p.URL == "" {
			p.URL, p.where = "amqp://guest:guest@127.0.0.1:5672/", "the default URL"
		}
	}
	if file := c.String("password-file"); file != "" {
		p.PasswordFile, p.Password = file, ""
	}
	if err == nil && p.PasswordFile != "" {
		p.Password, err = a.readSecret(p.PasswordFile)
	}
	return p, err
}

// hasSecret reports whether a URL contains a password, apart from the one of the user guest.
func hasSecret(raw string) bool {
	u, err := url.Parse(raw)
	if err != nil {
		return strings.Contains(raw, "@") // any part may be a piece of the password
	}
	password, _ := u.User.Password()
	return password != "" && u.User.String() != "guest:guest"
}

// config returns the configuration of a Conn.
func (p profile) config() (cfg amqpkit.Config, err error) {
	u, err := url.Parse(p.URL)
	if err != nil {
		return amqpkit.Config{URLs: []string{p.URL}}, nil //nolint:nilerr // Dial reports the error without the secrets of the URL
	}
	query := u.Query()
	for name, file := range map[string]string{"cacertfile": p.CA, "certfile": p.Cert, "keyfile": p.Key} {
		if file != "" {
			query.Set(name, file)
			u.RawQuery = query.Encode()
		}
	}
	user := p.User
	if user == "" {
		user = u.User.Username()
	}
	if p.Password != "" || p.User != "" {
		if user == "" {
			return cfg, usage("%s names no user for the password; write it into the URL: amqp://USER@HOST", p.where)
		}
		password := p.Password
		if password == "" {
			password, _ = u.User.Password()
		}
		u.User = url.UserPassword(user, password)
	}
	return amqpkit.Config{URLs: []string{u.String()}}, nil
}

// readSecret reads a password from the first line of a file.
func (a *app) readSecret(file string) (string, error) {
	b, err := os.ReadFile(file)
	if err != nil {
		return "", fmt.Errorf("read the password: %w", err)
	}
	a.warnReadable(file)
	secret, _, _ := strings.Cut(string(b), "\n")
	if secret = strings.TrimSuffix(secret, "\r"); secret == "" {
		return "", errors.New("the first line of " + file + " is empty; it must be the password")
	}
	return secret, nil
}
