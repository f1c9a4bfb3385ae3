package management

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
)

const (
	pageSize  = 500       // RabbitMQ's maximum
	maxBody   = 256 << 20 // bytes of one answer
	maxReason = 4 << 10   // bytes of the answer with an error
)

// A Client reads from the management API of one broker. Its methods may be called from any goroutine. They return an [*Error],
// unless ctx ended. It follows no redirects, so that the password reaches only the host of [Config.URL].
type Client struct {
	cfg      Config
	base     string // URL without the credentials, and without a slash at its end
	user     *url.Userinfo
	http     *http.Client
	maxBytes int64
}

// New returns a Client without connecting. An invalid field is an [*amqperr.FieldError].
func New(cfg Config) (*Client, error) {
	u, err := cfg.parse()
	if cfg.Timeout < 0 {
		err = errors.Join(err, fault("Timeout", "is negative", "leave it zero for 30 s"))
	}
	if err != nil {
		return nil, err
	}
	cfg.Timeout = cmp.Or(cfg.Timeout, defaultTimeout)
	c := &Client{cfg: cfg, user: cmp.Or(u.User, url.UserPassword("guest", "guest")), maxBytes: maxBody}
	u.User = nil
	c.base = strings.TrimSuffix(u.String(), "/")
	transport := http.DefaultTransport.(*http.Transport).Clone()
	if cfg.TLS != nil {
		transport.TLSClientConfig = cfg.TLS.Clone()
	}
	c.http = &http.Client{
		Transport:     transport,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	return c, nil
}

// Close closes the idle connections. The Client can still be used.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// Format writes the URL without its password, whatever the verb.
func (c *Client) Format(s fmt.State, _ rune) {
	_, _ = fmt.Fprintf(s, "management.Client{URL: %s}", c.base)
}

// get requests a path below /api/ and passes the answer to read.
func (c *Client) get(ctx context.Context, path, query string, read func(*json.Decoder) error) error {
	fail := func(status int, reason string, err error) error {
		if ctx.Err() != nil {
			return fmt.Errorf("management: GET /api/%s: %w", path, context.Cause(ctx))
		}
		return &Error{Method: http.MethodGet, Path: "/api/" + path, Status: status, Reason: reason, Err: err}
	}
	bounded, cancel := context.WithTimeout(ctx, c.cfg.Timeout)
	defer cancel()
	req, err := http.NewRequestWithContext(bounded, http.MethodGet, c.base+"/api/"+path+query, http.NoBody)
	if err != nil {
		return fail(0, "", err)
	}
	password, _ := c.user.Password()
	req.SetBasicAuth(c.user.Username(), password)
	resp, err := c.http.Do(req)
	if err != nil {
		if u, ok := errors.AsType[*url.Error](err); ok {
			err = u.Err // Error names the path
		}
		return fail(0, "", err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fail(resp.StatusCode, c.reason(resp), nil)
	}
	body := &io.LimitedReader{R: resp.Body, N: c.maxBytes}
	d := json.NewDecoder(body)
	d.UseNumber()
	if err := read(d); err != nil {
		if body.N <= 0 {
			err = fmt.Errorf("the answer is longer than %d bytes", c.maxBytes)
		}
		return fail(resp.StatusCode, "", err)
	}
	_, _ = io.CopyN(io.Discard, body, maxReason) // the end, so that the connection can be reused
	return nil
}

// reason returns the text of an answer that is not 200.
func (c *Client) reason(resp *http.Response) string {
	if to, err := resp.Location(); err == nil {
		return "redirected to " + to.Redacted()
	}
	var answer struct{ Error, Reason string }
	text, _ := io.ReadAll(io.LimitReader(resp.Body, maxReason))
	if json.Unmarshal(text, &answer) != nil {
		return ""
	}
	if answer.Error == answer.Reason {
		return answer.Reason
	}
	return strings.Trim(answer.Error+": "+answer.Reason, ": ")
}

// getOne returns the object at a path.
func getOne[T any](ctx context.Context, c *Client, path, query string) (object T, err error) {
	err = c.get(ctx, path, query, func(d *json.Decoder) error { return d.Decode(&object) })
	return object, err
}

// getAll returns the list at a path without pages. It decodes one element at a time.
func getAll[T any](ctx context.Context, c *Client, path string, add func(T)) error {
	return c.get(ctx, path, "", func(d *json.Decoder) error {
		if first, err := d.Token(); err != nil {
			return err
		} else if first != json.Delim('[') {
			return fmt.Errorf("the answer begins with %v, want a list", first)
		}
		for d.More() {
			var element T
			if err := d.Decode(&element); err != nil {
				return err
			}
			add(element)
		}
		_, err := d.Token()
		return err
	})
}

// getPages calls add for each object of the list at a path. An object moves to another page if others are created or deleted
// meanwhile, so that it may occur twice or, rarely, not at all. query are further parameters.
func getPages[T any](ctx context.Context, c *Client, path, query string, blank T, add func(T)) error {
	for number, last := 1, 1; number <= last; number++ {
		var page struct {
			Items     []json.RawMessage
			PageCount *int `json:"page_count"`
		}
		err := c.get(ctx, path, fmt.Sprintf("?page=%d&page_size=%d%s", number, pageSize, query), func(d *json.Decoder) error {
			if err := d.Decode(&page); err != nil {
				return err
			}
			if page.PageCount == nil {
				return errors.New("the answer has no pages")
			}
			for _, item := range page.Items {
				object := blank
				d := json.NewDecoder(strings.NewReader(string(item)))
				d.UseNumber()
				if err := d.Decode(&object); err != nil {
					return err
				}
				add(object)
			}
			return nil
		})
		if e, ok := errors.AsType[*Error](err); ok && number > 1 && strings.HasPrefix(e.Reason, "page_out_of_range") {
			return nil // the list became shorter
		}
		if err != nil {
			return err
		}
		last = *page.PageCount
	}
	return nil
}
