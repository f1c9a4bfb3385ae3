package codec

// The methods of class connection.
type (
	// ConnectionStart is connection.start.
	ConnectionStart struct {
		Major      uint8
		Minor      uint8
		Properties Table
		Mechanisms []byte
		Locales    []byte
	}
	// ConnectionStartOk is connection.start-ok.
	ConnectionStartOk struct {
		Properties Table
		Mechanism  string
		Response   []byte
		Locale     string
	}
	// ConnectionSecure is connection.secure.
	ConnectionSecure struct {
		Challenge []byte
	}
	// ConnectionSecureOk is connection.secure-ok.
	ConnectionSecureOk struct {
		Response []byte
	}
	// ConnectionTune is connection.tune.
	ConnectionTune struct {
		ChannelMax uint16
		FrameMax   uint32
		Heartbeat  uint16
	}
	// ConnectionTuneOk is connection.tune-ok.
	ConnectionTuneOk struct {
		ChannelMax uint16
		FrameMax   uint32
		Heartbeat  uint16
	}
	// ConnectionOpen is connection.open.
	ConnectionOpen struct {
		VHost        string
		Capabilities string
		Insist       bool
	}
	// ConnectionOpenOk is connection.open-ok.
	ConnectionOpenOk struct {
		KnownHosts string
	}
	// ConnectionClose is connection.close.
	ConnectionClose struct {
		Code   uint16
		Text   string
		Class  uint16
		Method uint16
	}
	// ConnectionCloseOk is connection.close-ok.
	ConnectionCloseOk struct{}
	// ConnectionBlocked is connection.blocked.
	ConnectionBlocked struct {
		Reason string
	}
	// ConnectionUnblocked is connection.unblocked.
	ConnectionUnblocked struct{}
	// ConnectionUpdateSecret is connection.update-secret.
	ConnectionUpdateSecret struct {
		Secret []byte
		Reason string
	}
	// ConnectionUpdateSecretOk is connection.update-secret-ok.
	ConnectionUpdateSecretOk struct{}
)

// ID is 10.10.
func (*ConnectionStart) ID() ID { return 10<<16 | 10 }

func (m *ConnectionStart) walk(c *coder) {
	c.u8(&m.Major)
	c.u8(&m.Minor)
	c.table(&m.Properties)
	c.long(&m.Mechanisms)
	c.long(&m.Locales)
}

// ID is 10.11.
func (*ConnectionStartOk) ID() ID { return 10<<16 | 11 }

func (m *ConnectionStartOk) walk(c *coder) {
	c.table(&m.Properties)
	c.name(&m.Mechanism)
	c.long(&m.Response)
	c.name(&m.Locale)
}

// ID is 10.20.
func (*ConnectionSecure) ID() ID { return 10<<16 | 20 }

func (m *ConnectionSecure) walk(c *coder) {
	c.long(&m.Challenge)
}

// ID is 10.21.
func (*ConnectionSecureOk) ID() ID { return 10<<16 | 21 }

func (m *ConnectionSecureOk) walk(c *coder) {
	c.long(&m.Response)
}

// ID is 10.30.
func (*ConnectionTune) ID() ID { return 10<<16 | 30 }

func (m *ConnectionTune) walk(c *coder) {
	c.u16(&m.ChannelMax)
	c.u32(&m.FrameMax)
	c.u16(&m.Heartbeat)
}

// ID is 10.31.
func (*ConnectionTuneOk) ID() ID { return 10<<16 | 31 }

func (m *ConnectionTuneOk) walk(c *coder) {
	c.u16(&m.ChannelMax)
	c.u32(&m.FrameMax)
	c.u16(&m.Heartbeat)
}

// ID is 10.40.
func (*ConnectionOpen) ID() ID { return 10<<16 | 40 }

func (m *ConnectionOpen) walk(c *coder) {
	c.name(&m.VHost)
	c.name(&m.Capabilities)
	c.bit(&m.Insist)
}

// ID is 10.41.
func (*ConnectionOpenOk) ID() ID { return 10<<16 | 41 }

func (m *ConnectionOpenOk) walk(c *coder) {
	c.name(&m.KnownHosts)
}

// ID is 10.50.
func (*ConnectionClose) ID() ID { return 10<<16 | 50 }

func (m *ConnectionClose) walk(c *coder) {
	c.u16(&m.Code)
	c.name(&m.Text)
	c.u16(&m.Class)
	c.u16(&m.Method)
}

// ID is 10.51.
func (*ConnectionCloseOk) ID() ID { return 10<<16 | 51 }

func (*ConnectionCloseOk) walk(*coder) {}

// ID is 10.60.
func (*ConnectionBlocked) ID() ID { return 10<<16 | 60 }

func (m *ConnectionBlocked) walk(c *coder) {
	c.name(&m.Reason)
}

// ID is 10.61.
func (*ConnectionUnblocked) ID() ID { return 10<<16 | 61 }

func (*ConnectionUnblocked) walk(*coder) {}

// ID is 10.70.
func (*ConnectionUpdateSecret) ID() ID { return 10<<16 | 70 }

func (m *ConnectionUpdateSecret) walk(c *coder) {
	c.long(&m.Secret)
	c.name(&m.Reason)
}

// ID is 10.71.
func (*ConnectionUpdateSecretOk) ID() ID { return 10<<16 | 71 }

func (*ConnectionUpdateSecretOk) walk(*coder) {}
