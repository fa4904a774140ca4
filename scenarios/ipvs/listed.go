package ipvs

// Listed is t as the kernel holds it, in the order in which ipvsadm lists it.
func (t Table) Listed() Table { return t.listed() }
