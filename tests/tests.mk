# empty until tests land
