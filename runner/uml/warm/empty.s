// Lets a function without a body be declared: it is the runtime's.
